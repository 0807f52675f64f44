//! What users see of the real controller over a real API, one sentence a function. They know the
//! cluster only through [`Stage`], so that the same list runs on the embedded API server and on a
//! real one. Every one ends in the fixed point.

use serde_json::{Value, json};

use crate::{
    cluster::{addresses, condition, reason_of},
    fixtures::{bare, default_class, pool, with},
    stage::Stage,
};

/// Calls a macro with the name of every sentence.
#[macro_export]
macro_rules! for_every_sentence {
    ($then:ident) => {
        $then! {
            a_load_balancer_gets_an_address_with_one_status_write_and_no_event
            a_service_that_becomes_a_load_balancer_gets_an_address_and_one_that_leaves_gives_it_back
            an_external_name_gives_back_everything_and_may_return
            a_service_made_again_under_its_name_is_another_one
            a_freed_address_goes_to_the_oldest_waiter
            editing_a_pool_moves_only_those_whose_address_it_lost
            deleting_the_last_pool_takes_the_address_back_and_says_so
            overlapping_pools_switch_off_the_younger_until_it_is_edited
            deleting_a_class_hands_out_nothing_new_and_releases_nothing
            a_service_without_a_class_waits_for_a_default_class
            a_named_class_is_served_and_a_foreign_one_never_touched
            an_explicit_address_is_given_or_refused_with_the_reason
            a_shared_address_goes_by_key_and_never_twice_to_one_port
            prefer_dual_stack_takes_what_is_there_and_the_rest_when_it_comes
            a_tenant_gets_nothing_from_a_pool_that_does_not_admit_it
            a_waiting_service_gets_one_warning_and_its_number_when_there_is_one
            a_status_edited_by_hand_is_repaired_and_said_so
            conditions_of_others_survive
            a_full_pool_says_so
            every_write_names_its_writer
        }
    };
}

/// A LoadBalancer without nodePorts, as users write it.
fn lb(name: &str) -> Value {
    with(
        bare(name, "LoadBalancer"),
        "/spec/allocateLoadBalancerNodePorts",
        json!(false),
    )
}

fn noted(service: Value, annotation: &str, value: &str) -> Value {
    with(
        service,
        &format!("/metadata/annotations/{}", annotation.replace('/', "~1")),
        json!(value),
    )
}

fn class(name: &str, class_name: &str) -> Value {
    let class = with(default_class(), "/metadata/name", json!(name));
    let class = with(class, "/spec/className", json!(class_name));
    with(class, "/spec/default", Value::Null)
}

#[expect(missing_docs, reason = "the names are the sentences")]
mod sentences {
    use super::*;

    pub async fn a_load_balancer_gets_an_address_with_one_status_write_and_no_event(on: Stage) {
        on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.0").await;
        on.cluster.settled().await;
        let service = on.cluster.service("a").await;
        assert_eq!(
            service["status"]["loadBalancer"]["ingress"],
            json!([{"ip": "192.0.2.0", "ipMode": "VIP"}])
        );
        assert_eq!(reason_of(&service), "Allocated");
        assert_eq!(
            condition(&service, "AddressAllocated").unwrap()["status"],
            "True"
        );
        let writes = on.writes();
        let count = |what: &str| writes.iter().filter(|told| told.ends_with(what)).count();
        assert_eq!(count("services/a/status"), 1, "{writes:?}");
        assert!(count("services/a") <= 1, "{writes:?}");
        assert_eq!(count("events"), 0, "{writes:?}");
        on.fixed_point(running).await;
    }

    pub async fn a_service_that_becomes_a_load_balancer_gets_an_address_and_one_that_leaves_gives_it_back(
        on: Stage,
    ) {
        on.create([
            pool("public", &["192.0.2.7/32"]),
            bare("a", "ClusterIP"),
            lb("b"),
        ])
        .await;
        let running = on.start("one");
        on.cluster.until_address("b", "192.0.2.7").await;
        for other in ["ClusterIP", "NodePort"] {
            on.cluster
                .edit("Service", "default/b", |o| {
                    o["spec"]["type"] = json!(other);
                    o["spec"]
                        .as_object_mut()
                        .unwrap()
                        .remove("allocateLoadBalancerNodePorts");
                })
                .await;
            on.cluster
                .set("a", "/spec/type", json!("LoadBalancer"))
                .await;
            on.cluster.until_address("a", "192.0.2.7").await;
            on.cluster
                .until_service("b", "has nothing left of its load balancer", |o| {
                    addresses(o).is_empty() && condition(o, "AddressAllocated").is_none()
                })
                .await;
            on.cluster.set("a", "/spec/type", json!(other)).await;
            on.cluster
                .set("b", "/spec/type", json!("LoadBalancer"))
                .await;
            on.cluster.until_address("b", "192.0.2.7").await;
        }
        on.fixed_point(running).await;
    }

    pub async fn an_external_name_gives_back_everything_and_may_return(on: Stage) {
        on.create([pool("public", &["192.0.2.7/32"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.7").await;
        on.cluster
            .edit("Service", "default/a", |o| {
                o["spec"] = json!({"type": "ExternalName", "externalName": "example.com"});
            })
            .await;
        on.cluster
            .until_service("a", "is cleared", |o| {
                addresses(o).is_empty() && reason_of(o).is_empty()
            })
            .await;
        on.create([lb("b")]).await;
        on.cluster.until_address("b", "192.0.2.7").await;
        on.cluster.delete("Service", "default/b").await;
        on.cluster
            .edit("Service", "default/a", |o| {
                o["spec"] = lb("a")["spec"].clone()
            })
            .await;
        on.cluster.until_address("a", "192.0.2.7").await;
        on.fixed_point(running).await;
    }

    pub async fn a_service_made_again_under_its_name_is_another_one(on: Stage) {
        on.create([pool("public", &["192.0.2.0/30"]), lb("a"), lb("b")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("b", "192.0.2.1").await;
        for _ in 0..8 {
            on.cluster.delete("Service", "default/a").await;
            on.create([lb("a")]).await;
            on.cluster
                .until_service("a", "has an address", |o| addresses(o).len() == 1)
                .await;
        }
        on.cluster.until_address("b", "192.0.2.1").await;
        on.fixed_point(running).await;
    }

    pub async fn a_freed_address_goes_to_the_oldest_waiter(on: Stage) {
        on.create([pool("public", &["192.0.2.7/32"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.7").await;
        // Creation times are whole seconds; where two are equal the name decides.
        on.create([lb("b-older")]).await;
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        on.create([lb("c-younger")]).await;
        on.cluster.until_reason("b-older", "PoolExhausted").await;
        on.cluster.until_reason("c-younger", "PoolExhausted").await;
        on.cluster.delete("Service", "default/a").await;
        on.cluster.until_address("b-older", "192.0.2.7").await;
        on.fixed_point(running).await;
    }

    pub async fn editing_a_pool_moves_only_those_whose_address_it_lost(on: Stage) {
        on.create([pool("public", &["192.0.2.1-192.0.2.4"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.1").await;
        on.create([lb("b")]).await;
        on.cluster.until_address("b", "192.0.2.2").await;
        on.cluster
            .edit("AddressPool", "public", |o| {
                o["spec"]["addresses"] = json!(["192.0.2.2-192.0.2.9"])
            })
            .await;
        on.cluster.until_address("a", "192.0.2.3").await;
        on.cluster.until_address("b", "192.0.2.2").await;
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("a", "AddressMoved").await, 1);
        assert_eq!(on.cluster.events("b", "AddressMoved").await, 0);
        on.fixed_point(running).await;
    }

    pub async fn deleting_the_last_pool_takes_the_address_back_and_says_so(on: Stage) {
        on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.0").await;
        on.cluster.delete("AddressPool", "public").await;
        let service = on.cluster.until_reason("a", "NoPool").await;
        assert_eq!(addresses(&service), [""; 0]);
        on.create([pool("other", &["198.51.100.0/24"])]).await;
        on.cluster.until_address("a", "198.51.100.0").await;
        on.fixed_point(running).await;
    }

    pub async fn overlapping_pools_switch_off_the_younger_until_it_is_edited(on: Stage) {
        on.create([pool("older", &["192.0.2.0/30"])]).await;
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        on.create([
            pool("younger", &["192.0.2.0/24"]),
            noted(lb("a"), "portolan.dev/address-pool", "younger"),
        ])
        .await;
        let running = on.start("one");
        on.cluster.until_reason("a", "PoolUnavailable").await;
        on.cluster
            .until("the younger says so and the older does not", async |c| {
                let younger = c.get("AddressPool", "younger").await.unwrap();
                let older = c.get("AddressPool", "older").await.unwrap();
                younger["status"].to_string().contains("PoolOverlap")
                    && !older["status"].to_string().contains("PoolOverlap")
            })
            .await;
        on.cluster
            .edit("AddressPool", "younger", |o| {
                o["spec"]["addresses"] = json!(["198.51.100.0/24"])
            })
            .await;
        on.cluster.until_address("a", "198.51.100.0").await;
        on.fixed_point(running).await;
    }

    pub async fn deleting_a_class_hands_out_nothing_new_and_releases_nothing(on: Stage) {
        on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.0").await;
        on.cluster.delete("LoadBalancerClass", "default").await;
        // Classes and Services come by watches of their own: the later one may be seen first.
        on.cluster.settled().await;
        on.create([lb("b")]).await;
        on.cluster.settled().await;
        on.cluster.until_address("a", "192.0.2.0").await;
        assert_eq!(addresses(&on.cluster.service("b").await), [""; 0]);
        on.create([default_class()]).await;
        on.cluster.until_address("b", "192.0.2.1").await;
        on.fixed_point(running).await;
    }

    pub async fn a_service_without_a_class_waits_for_a_default_class(on: Stage) {
        on.cluster.delete("LoadBalancerClass", "default").await;
        on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.settled().await;
        let service = on.cluster.service("a").await;
        assert!(
            addresses(&service).is_empty() && reason_of(&service).is_empty(),
            "not ours: {service}"
        );
        on.create([class("plain", "example.com/plain")]).await;
        on.cluster.settled().await;
        assert_eq!(reason_of(&on.cluster.service("a").await), "");
        on.cluster
            .edit("LoadBalancerClass", "plain", |o| {
                o["spec"]["default"] = json!(true)
            })
            .await;
        on.cluster.until_address("a", "192.0.2.0").await;
        on.fixed_point(running).await;
    }

    pub async fn a_named_class_is_served_and_a_foreign_one_never_touched(on: Stage) {
        let of = |name: &str, class: &str| with(lb(name), "/spec/loadBalancerClass", json!(class));
        on.create([
            pool("public", &["192.0.2.0/24"]),
            class("named", "example.com/ours"),
            of("ours", "example.com/ours"),
            of("foreign", "example.com/other"),
        ])
        .await;
        let running = on.start("one");
        on.cluster.until_address("ours", "192.0.2.0").await;
        on.cluster.settled().await;
        let foreign = on.cluster.service("foreign").await;
        assert!(
            foreign["status"]["conditions"].is_null() && addresses(&foreign).is_empty(),
            "{foreign}"
        );
        assert!(
            !on.writes()
                .iter()
                .any(|told| told == "patch services/foreign/status")
        );
        on.fixed_point(running).await;
    }

    pub async fn an_explicit_address_is_given_or_refused_with_the_reason(on: Stage) {
        on.create([
            pool("public", &["192.0.2.0/24"]),
            noted(lb("a"), "portolan.dev/addresses", "192.0.2.44"),
            with(lb("b"), "/spec/loadBalancerIP", json!("192.0.2.45")),
            noted(lb("c"), "metallb.io/loadBalancerIPs", "192.0.2.46"),
            noted(lb("outside"), "portolan.dev/addresses", "203.0.113.1"),
            noted(lb("broken"), "portolan.dev/addresses", "192.0.2"),
        ])
        .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.44").await;
        on.cluster.until_address("b", "192.0.2.45").await;
        on.cluster.until_address("c", "192.0.2.46").await;
        on.cluster.until_reason("outside", "AddressNotInPool").await;
        on.cluster.until_reason("broken", "InvalidRequest").await;
        on.create([noted(lb("late"), "portolan.dev/addresses", "192.0.2.44")])
            .await;
        on.cluster.until_reason("late", "AddressInUse").await;
        on.cluster.delete("Service", "default/a").await;
        on.cluster.until_address("late", "192.0.2.44").await;
        on.fixed_point(running).await;
    }

    pub async fn a_shared_address_goes_by_key_and_never_twice_to_one_port(on: Stage) {
        let shared = |name: &str, port: u16| {
            with(
                noted(lb(name), "portolan.dev/sharing-key", "web"),
                "/spec/ports/0/port",
                json!(port),
            )
        };
        on.create([pool("public", &["192.0.2.0/24"]), shared("a", 80)])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.0").await;
        on.create([shared("b", 443), shared("c", 80)]).await;
        on.cluster.until_address("b", "192.0.2.0").await;
        on.cluster.until_address("c", "192.0.2.1").await;
        on.fixed_point(running).await;
    }

    pub async fn prefer_dual_stack_takes_what_is_there_and_the_rest_when_it_comes(on: Stage) {
        let dual = |name: &str, policy: &str| with(lb(name), "/spec/ipFamilyPolicy", json!(policy));
        on.create([
            pool("four", &["192.0.2.0/24"]),
            dual("prefer", "PreferDualStack"),
            dual("require", "RequireDualStack"),
        ])
        .await;
        let running = on.start("one");
        on.cluster.until_address("prefer", "192.0.2.0").await;
        on.cluster.until_reason("prefer", "PartlyAllocated").await;
        on.cluster
            .until_service("require", "waits", |o| {
                !["", "Allocated"].contains(&reason_of(o))
            })
            .await;
        on.cluster.settled().await;
        assert_eq!(
            addresses(&on.cluster.service("require").await),
            [""; 0],
            "all or nothing"
        );
        on.create([pool("six", &["2001:db8::/112"])]).await;
        for name in ["prefer", "require"] {
            on.cluster
                .until_service(name, "has both families", |o| addresses(o).len() == 2)
                .await;
        }
        assert_eq!(
            addresses(&on.cluster.service("prefer").await).first(),
            Some(&"192.0.2.0"),
            "what it had stays"
        );
        on.fixed_point(running).await;
    }

    pub async fn a_tenant_gets_nothing_from_a_pool_that_does_not_admit_it(on: Stage) {
        let tenant = with(
            pool("tenant-b", &["198.51.100.0/24"]),
            "/spec/namespaces",
            json!(["tenant-b"]),
        );
        on.create([
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-b"}}),
            tenant,
            noted(lb("by-name"), "portolan.dev/address-pool", "tenant-b"),
            noted(lb("by-number"), "portolan.dev/addresses", "198.51.100.9"),
            with(lb("inside"), "/metadata/namespace", json!("tenant-b")),
        ])
        .await;
        let running = on.start("one");
        on.cluster.until_reason("by-name", "PoolNotAdmitted").await;
        on.cluster
            .until_reason("by-number", "PoolNotAdmitted")
            .await;
        on.cluster
            .until("the tenant has it", async |c| {
                addresses(&c.get("Service", "tenant-b/inside").await.unwrap()) == ["198.51.100.0"]
            })
            .await;
        on.fixed_point(running).await;
    }

    pub async fn a_waiting_service_gets_one_warning_and_its_number_when_there_is_one(on: Stage) {
        on.create([lb("a")]).await;
        let running = on.start("one");
        on.cluster.until_reason("a", "NoPool").await;
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("a", "NoPool").await, 1);
        let event = on.cluster.our_events("a").await.remove(0);
        assert_eq!(event["type"], "Warning");
        assert!(
            event["note"]
                .as_str()
                .is_some_and(|note| note.contains("AddressPool")),
            "{event}"
        );
        on.create([pool("public", &["192.0.2.0/24"])]).await;
        on.cluster.until_address("a", "192.0.2.0").await;
        on.cluster.settled().await;
        assert_eq!(
            on.cluster.our_events("a").await.len(),
            1,
            "ordinary success is no Event"
        );
        on.fixed_point(running).await;
    }

    pub async fn a_status_edited_by_hand_is_repaired_and_said_so(on: Stage) {
        on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.0").await;
        on.create([lb("b")]).await;
        on.cluster.until_address("b", "192.0.2.1").await;
        for wrong in [
            json!([{"ip": "192.0.2.1"}]),
            json!([]),
            json!([{"hostname": "example.com"}]),
        ] {
            on.cluster
                .edit_status("Service", "default/a", |o| {
                    o["status"]["loadBalancer"]["ingress"] = wrong.clone()
                })
                .await;
            on.cluster.until_address("a", "192.0.2.0").await;
        }
        on.cluster.settled().await;
        assert!(on.cluster.events("a", "Repaired").await >= 1);
        on.fixed_point(running).await;
    }

    pub async fn conditions_of_others_survive(on: Stage) {
        on.create([pool("public", &["192.0.2.0/24"]), lb("a")])
            .await;
        let other = json!({
            "type": "example.com/Checked", "status": "True", "reason": "Fine", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        on.cluster
            .edit_status("Service", "default/a", |o| {
                o["status"]["conditions"] = json!([other])
            })
            .await;
        let running = on.start("one");
        on.cluster.until_address("a", "192.0.2.0").await;
        assert_eq!(
            condition(&on.cluster.service("a").await, "Checked"),
            Some(&other)
        );
        on.cluster.set("a", "/spec/type", json!("ClusterIP")).await;
        on.cluster
            .until_service("a", "has left", |o| {
                condition(o, "AddressAllocated").is_none()
            })
            .await;
        assert_eq!(
            condition(&on.cluster.service("a").await, "Checked"),
            Some(&other)
        );
        on.fixed_point(running).await;
    }

    pub async fn a_full_pool_says_so(on: Stage) {
        on.create([pool("public", &["192.0.2.0/31"]), lb("a"), lb("b"), lb("c")])
            .await;
        let running = on.start("one");
        let exhausted = async |says: bool| {
            let what = format!("says Exhausted: {says}");
            on.cluster
                .until(&what, async |c| {
                    let pool = c.get("AddressPool", "public").await.unwrap();
                    condition(&pool, "Exhausted").is_some() == says
                })
                .await;
        };
        exhausted(true).await;
        on.cluster.settled().await;
        let pool = on.cluster.get("AddressPool", "public").await.unwrap();
        assert_eq!(pool["status"]["ipv4"]["claimed"], 2, "{}", pool["status"]);
        for name in ["a", "b"] {
            on.cluster
                .delete("Service", &format!("default/{name}"))
                .await;
        }
        exhausted(false).await;
        on.fixed_point(running).await;
    }

    pub async fn every_write_names_its_writer(on: Stage) {
        on.create([pool("public", &["192.0.2.7/32"]), lb("a"), lb("b")])
            .await;
        let running = on.campaign(on.client.clone(), "one");
        on.cluster
            .until("one waits", async |c| !c.all("Event").await.is_empty())
            .await;
        on.cluster.settled().await;
        let writes = on.faults.log().writes();
        assert!(writes.len() >= 5, "{writes:?}");
        for write in &writes {
            assert!(
                write.request.query.contains("fieldManager=portolan"),
                "{write:?}"
            );
        }
        for request in on.faults.log().entries() {
            assert_eq!(
                request.request.user_agent,
                controller::shell::USER_AGENT,
                "{request:?}"
            );
        }
        running.stop().await;
    }
}

pub use sentences::*;
