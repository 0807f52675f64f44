//! Addresses announced on the local network, seen by whoever is on it: Portolan as its chart, real
//! kube-proxies, real pods, and kernels of clients that know nothing of all that. Every Service has an
//! address of each family, and each sentence holds for both: see `town.rs`.

#![cfg(test)]
#[path = "../common/kubectl.rs"]
mod kubectl;
#[path = "../common/pods.rs"]
mod pods;
mod town;
mod watch;

mod crash;
mod links;
mod planned;
mod rights;
mod split;
mod traffic;

/// Each of these in a town that no other is in: `town`, while another may be in the other one, or
/// `alone`.
macro_rules! sentences {
    ($stay:ident => $($chapter:ident: $($sentence:ident)*;)*) => {
        $($(
            #[test]
            #[ignore = "real Kubernetes with nodes: cargo xtask test, or see CONTRIBUTING"]
            fn $sentence() {
                super::$chapter::$sentence(&mut super::town::$stay());
            }
        )*)*
    };
}

mod lab {
    sentences! { town =>
        traffic:
            a_new_address_answers_within_a_second_and_says_where
            services_that_share_an_address_have_one_owner
            with_local_policy_only_nodes_with_an_endpoint_answer
            without_endpoints_nobody_answers_and_the_service_says_so;
        crash:
            a_node_that_is_cut_off_loses_its_addresses_within_a_second
            a_killed_speaker_loses_its_addresses_within_a_second
            a_stopped_speaker_loses_its_addresses_and_says_nothing_when_it_goes_on
            a_flapping_node_takes_nothing_back
            addresses_are_answered_and_fail_over_while_the_api_server_is_down;
        split:
            after_a_partition_heals_one_side_falls_silent_at_once
            a_minority_goes_on_answering_its_own_clients
            a_foreign_machine_with_the_address_is_told_of_and_defended_against;
        links:
            an_interface_may_be_renamed
            an_interface_that_is_gone_gives_its_addresses_away_and_comes_back;
        planned:
            cordon_moves_addresses_without_a_lost_request
            an_update_of_the_speakers_loses_no_request
            a_deleted_node_loses_its_addresses;
        rights:
            a_node_writes_its_own_status_only
            the_key_survives_an_upgrade_of_the_chart
            speakers_run_with_the_least_privilege;
    }
    // Three kube-proxies with hundreds of Services leave nobody else any CPU.
    sentences! { alone =>
        crash: hundreds_of_addresses_move_at_once;
    }
}
