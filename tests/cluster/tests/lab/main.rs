//! Traffic through Services whose numbers are Portolan's: the controller as its Deployment, real
//! pods, real kube-proxies and a client outside. The same sentences for every way in which
//! kube-proxy tells the kernel, and for a cluster that is given (kind): see `town.rs`.

#![cfg(test)]
#[path = "../common/kubectl.rs"]
mod kubectl;
#[path = "../common/pods.rs"]
mod pods;
mod town;
mod traffic;
mod upgrade;

/// Each of these in a town whose kube-proxies run in each mode.
macro_rules! everywhere {
    ($($sentences:ident: $($sentence:ident)*;)*) => {
        mod lab_nftables {
            use cluster::ProxyMode;
            $($(
                #[test]
                #[ignore = "real Kubernetes with nodes: cargo xtask test, or see CONTRIBUTING"]
                fn $sentence() {
                    super::$sentences::$sentence(super::town::town(ProxyMode::Nftables));
                }
            )*)*
        }

        mod lab_iptables {
            use cluster::ProxyMode;
            $($(
                #[test]
                #[ignore = "real Kubernetes with nodes: cargo xtask test, or see CONTRIBUTING"]
                fn $sentence() {
                    super::$sentences::$sentence(super::town::town(ProxyMode::Iptables));
                }
            )*)*
        }
    };
}

everywhere! {
    traffic:
        hello_world_answers_by_its_address_its_node_ports_its_cluster_ip_and_its_variables
        one_port_number_serves_tcp_and_udp_by_named_target_ports
        with_local_policy_the_client_is_seen_and_only_its_node_is_healthy
        a_client_with_session_affinity_stays_with_one_pod
        a_service_without_selector_leads_to_its_own_endpoint_slice
        a_headless_service_is_left_alone_and_its_pods_are_reached
        both_families_answer
        a_node_port_that_a_policy_changes_answers_and_the_old_one_is_closed
        an_address_given_back_no_longer_answers;
    upgrade:
        a_rolling_update_and_a_killed_leader_cost_no_request
        the_deployment_runs_with_the_least_privilege;
}
