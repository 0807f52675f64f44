//! nodePorts by policy, one sentence a function, on any API server: where it gives nodePorts itself
//! and where it does not. Every one ends in the fixed point. Services say which nodePort they begin
//! with; what a server picks by itself is for the real one's own tests.

use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, addresses, condition, reason_of},
    fixtures::{bare, enforcing, node_port, noted, pool, port_pool, with},
    stage::Stage,
};

/// Calls a macro with the name of every sentence.
#[macro_export]
macro_rules! for_every_node_port_sentence {
    ($then:ident) => {
        $then! {
            a_node_port_outside_the_enforcing_pool_is_changed_and_the_old_one_is_free_again
            node_ports_that_fit_are_adopted_and_never_changed
            a_pool_that_only_gives_changes_nothing_that_is_there
            without_a_node_port_pool_nothing_is_touched
            the_number_asked_for_replaces_the_one_there
            a_number_asked_for_and_taken_names_the_holder_and_a_free_one_and_comes_when_free
            the_pool_asked_for_by_name_binds
            a_pool_that_does_not_admit_the_service_is_refused_and_nothing_moves
            a_service_may_keep_its_node_ports
            tcp_and_udp_of_one_number_move_together
            two_ports_swap_their_numbers_in_one_write
            a_load_balancer_keeps_its_address_when_its_node_ports_change
            a_load_balancer_without_allocation_is_changed_too
            a_health_check_node_port_outside_the_pool_is_reported_and_stays
            a_type_that_has_no_node_ports_gives_them_back_and_may_return
            a_pool_that_loses_a_port_changes_it_and_a_full_one_says_so
            a_released_port_is_kept_for_its_owner
        }
    };
}

/// The one or the first nodePort.
pub fn port(service: &Value) -> u64 {
    let port = service["spec"]["ports"][0]["nodePort"].as_u64();
    port.unwrap_or_default()
}

/// Reason and message of the condition about nodePorts.
pub fn told(service: &Value) -> String {
    condition(service, "NodePortsAllocated").map_or_else(String::new, |condition| {
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        format!("{}: {}", text("reason"), text("message"))
    })
}

async fn until_port(on: &Cluster, name: &str, wanted: u64) -> Value {
    on.until_service(name, &format!("has {wanted}"), |o| port(o) == wanted)
        .await
}

async fn until_told(on: &Cluster, name: &str, what: &str) -> Value {
    on.until_service(name, &format!("is told {what:?}"), |o| {
        told(o).contains(what)
    })
    .await
}

/// A pool that gives what is outside the others, so that all numbers are in the ledger.
fn rest() -> Value {
    port_pool("rest", &["31000-31099"])
}

fn team() -> Value {
    enforcing(port_pool("team", &["30010-30013"]))
}

/// The sentences.
#[allow(missing_docs, reason = "each says what it shows by its name")]
pub mod sentences {
    use super::*;

    pub async fn a_node_port_outside_the_enforcing_pool_is_changed_and_the_old_one_is_free_again(
        on: Stage,
    ) {
        on.create([rest(), team(), node_port("web", 31_000)]).await;
        let running = on.start("one");
        until_port(&on.cluster, "web", 30_010).await;
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("web", "NodePortMoved").await, 1);
        let events = on.cluster.our_events("web").await;
        assert_eq!(
            events[0]["note"],
            "nodePort of port http changed from 31000 to 30010: 31000 lies outside pool \"team\""
        );
        let next = noted(
            node_port("next", 31_000),
            "portolan.dev/keep-node-ports",
            "true",
        );
        on.create([next]).await;
        on.cluster.settled().await;
        assert_eq!(port(&on.cluster.service("next").await), 31_000);
        on.fixed_point(running).await;
    }

    pub async fn node_ports_that_fit_are_adopted_and_never_changed(on: Stage) {
        on.create([node_port("a", 30_012), node_port("b", 30_010), team()])
            .await;
        let running = on.start("one");
        on.cluster.settled().await;
        assert_eq!(port(&on.cluster.service("a").await), 30_012);
        assert_eq!(port(&on.cluster.service("b").await), 30_010);
        assert_eq!(on.cluster.our_events("a").await.len(), 0);
        on.create([node_port("c", 31_000)]).await;
        until_port(&on.cluster, "c", 30_011).await;
        on.fixed_point(running).await;
    }

    pub async fn a_pool_that_only_gives_changes_nothing_that_is_there(on: Stage) {
        on.create([
            rest(),
            port_pool("team", &["30010-30013"]),
            node_port("a", 31_000),
        ])
        .await;
        let running = on.start("one");
        on.cluster.settled().await;
        let a = on.cluster.service("a").await;
        assert_eq!((port(&a), told(&a)), (31_000, String::new()));
        on.fixed_point(running).await;
    }

    pub async fn without_a_node_port_pool_nothing_is_touched(on: Stage) {
        let asking = noted(
            node_port("a", 31_000),
            "portolan.dev/node-ports",
            "http=30010",
        );
        on.create([asking]).await;
        let running = on.start("one");
        on.cluster.settled().await;
        let a = on.cluster.service("a").await;
        assert_eq!((port(&a), told(&a)), (31_000, String::new()));
        running.stop().await;
    }

    pub async fn the_number_asked_for_replaces_the_one_there(on: Stage) {
        on.create([rest(), node_port("a", 31_000)]).await;
        let running = on.start("one");
        on.cluster.settled().await;
        let asking = "/metadata/annotations/portolan.dev~1node-ports";
        on.cluster.set("a", asking, json!("http=31042")).await;
        until_port(&on.cluster, "a", 31_042).await;
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("a", "NodePortMoved").await, 1);
        on.fixed_point(running).await;
    }

    pub async fn a_number_asked_for_and_taken_names_the_holder_and_a_free_one_and_comes_when_free(
        on: Stage,
    ) {
        let asking = noted(
            node_port("b", 31_000),
            "portolan.dev/node-ports",
            "http=31042",
        );
        on.create([rest(), node_port("a", 31_042), asking]).await;
        let running = on.start("one");
        let b = until_told(&on.cluster, "b", "AddressInUse").await;
        assert_eq!(port(&b), 31_000);
        let words = told(&b);
        assert!(words.contains("default/a"), "{words}");
        assert!(words.contains("is free"), "{words}");
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("b", "AddressInUse").await, 1);
        on.cluster.delete("Service", "default/a").await;
        let b = until_port(&on.cluster, "b", 31_042).await;
        assert_eq!(b["metadata"]["name"], "b");
        on.cluster
            .until_service("b", "is told nothing more", |o| told(o).is_empty())
            .await;
        on.fixed_point(running).await;
    }

    pub async fn the_pool_asked_for_by_name_binds(on: Stage) {
        let special = with(
            port_pool("special", &["30020-30023"]),
            "/spec/autoAssign",
            json!(false),
        );
        let asking = noted(
            node_port("a", 31_000),
            "portolan.dev/node-port-pool",
            "special",
        );
        let missing = noted(
            node_port("b", 31_001),
            "portolan.dev/node-port-pool",
            "none",
        );
        on.create([rest(), special, asking, missing]).await;
        let running = on.start("one");
        until_port(&on.cluster, "a", 30_020).await;
        let b = until_told(&on.cluster, "b", "PoolNotFound").await;
        assert_eq!(port(&b), 31_001);
        on.fixed_point(running).await;
    }

    pub async fn a_pool_that_does_not_admit_the_service_is_refused_and_nothing_moves(on: Stage) {
        let theirs = with(
            port_pool("theirs", &["30020-30023"]),
            "/spec/namespaces",
            json!(["other"]),
        );
        let by_name = noted(
            node_port("a", 31_000),
            "portolan.dev/node-port-pool",
            "theirs",
        );
        let by_number = noted(
            node_port("b", 31_001),
            "portolan.dev/node-ports",
            "http=30021",
        );
        on.create([rest(), theirs, by_name, by_number]).await;
        let running = on.start("one");
        let a = until_told(&on.cluster, "a", "PoolNotAdmitted").await;
        let b = until_told(&on.cluster, "b", "PoolNotAdmitted").await;
        assert_eq!((port(&a), port(&b)), (31_000, 31_001));
        on.fixed_point(running).await;
    }

    pub async fn a_service_may_keep_its_node_ports(on: Stage) {
        let keeps = noted(
            node_port("a", 31_000),
            "portolan.dev/keep-node-ports",
            "true",
        );
        on.create([rest(), team(), keeps]).await;
        let running = on.start("one");
        on.cluster.settled().await;
        let a = on.cluster.service("a").await;
        assert_eq!((port(&a), told(&a)), (31_000, String::new()));
        let keep = "/metadata/annotations/portolan.dev~1keep-node-ports";
        on.cluster.set("a", keep, Value::Null).await;
        until_port(&on.cluster, "a", 30_010).await;
        on.fixed_point(running).await;
    }

    pub async fn tcp_and_udp_of_one_number_move_together(on: Stage) {
        let ports = json!([
            {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 31053},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 31053},
            {"name": "metrics", "port": 9153, "protocol": "TCP", "nodePort": 30013},
        ]);
        on.create([
            rest(),
            team(),
            with(bare("dns", "NodePort"), "/spec/ports", ports),
        ])
        .await;
        let running = on.start("one");
        let dns = until_port(&on.cluster, "dns", 30_010).await;
        let ports: Vec<_> = dns["spec"]["ports"].as_array().unwrap().iter().collect();
        let told: Vec<String> = ports
            .iter()
            .map(|p| format!("{} {} {}", p["name"], p["protocol"], p["nodePort"]))
            .collect();
        assert_eq!(
            told,
            [
                "\"dns\" \"UDP\" 30010",
                "\"dns-tcp\" \"TCP\" 30010",
                "\"metrics\" \"TCP\" 30013"
            ]
        );
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("dns", "NodePortMoved").await, 2);
        on.fixed_point(running).await;
    }

    pub async fn two_ports_swap_their_numbers_in_one_write(on: Stage) {
        let ports = json!([
            {"name": "a", "port": 80, "protocol": "TCP", "nodePort": 31001},
            {"name": "b", "port": 81, "protocol": "TCP", "nodePort": 31002},
        ]);
        let swap = with(bare("swap", "NodePort"), "/spec/ports", ports);
        let swap = noted(swap, "portolan.dev/node-ports", "a=31002,b=31001");
        on.create([rest(), swap]).await;
        let running = on.start("one");
        let swap = until_port(&on.cluster, "swap", 31_002).await;
        assert_eq!(swap["spec"]["ports"][1]["nodePort"], 31_001);
        on.fixed_point(running).await;
    }

    pub async fn a_load_balancer_keeps_its_address_when_its_node_ports_change(on: Stage) {
        let lb = with(node_port("lb", 31_000), "/spec/type", json!("LoadBalancer"));
        on.create([rest(), pool("public", &["192.0.2.0/24"]), lb])
            .await;
        let running = on.start("one");
        on.cluster.until_address("lb", "192.0.2.0").await;
        on.create([team()]).await;
        let lb = until_port(&on.cluster, "lb", 30_010).await;
        assert_eq!(addresses(&lb), ["192.0.2.0"]);
        on.cluster.settled().await;
        let lb = on.cluster.service("lb").await;
        assert_eq!(
            (addresses(&lb), reason_of(&lb)),
            (vec!["192.0.2.0"], "Allocated")
        );
        on.fixed_point(running).await;
    }

    pub async fn a_load_balancer_without_allocation_is_changed_too(on: Stage) {
        let lb = with(node_port("lb", 31_000), "/spec/type", json!("LoadBalancer"));
        let lb = with(lb, "/spec/allocateLoadBalancerNodePorts", json!(false));
        on.create([rest(), team(), pool("public", &["192.0.2.0/24"]), lb])
            .await;
        let running = on.start("one");
        until_port(&on.cluster, "lb", 30_010).await;
        on.cluster.until_address("lb", "192.0.2.0").await;
        on.fixed_point(running).await;
    }

    pub async fn a_health_check_node_port_outside_the_pool_is_reported_and_stays(on: Stage) {
        let lb = with(node_port("lb", 30_011), "/spec/type", json!("LoadBalancer"));
        let lb = with(lb, "/spec/externalTrafficPolicy", json!("Local"));
        let lb = with(lb, "/spec/healthCheckNodePort", json!(31_005));
        on.create([rest(), team(), pool("public", &["192.0.2.0/24"]), lb])
            .await;
        let running = on.start("one");
        on.cluster.until_address("lb", "192.0.2.0").await;
        let lb = until_told(&on.cluster, "lb", "NodePortOutsidePolicy").await;
        let words = told(&lb);
        assert!(
            words.contains("31005") && words.contains("30010"),
            "{words}"
        );
        assert_eq!(lb["spec"]["healthCheckNodePort"], 31_005);
        assert_eq!(reason_of(&lb), "Allocated");
        on.cluster.settled().await;
        assert_eq!(on.cluster.events("lb", "NodePortOutsidePolicy").await, 1);
        on.fixed_point(running).await;
    }

    pub async fn a_type_that_has_no_node_ports_gives_them_back_and_may_return(on: Stage) {
        on.create([rest(), team(), node_port("web", 30_010)]).await;
        let running = on.start("one");
        on.cluster.settled().await;
        let empty = |service: &Value| port(service) == 0;
        for (type_, back) in [("ClusterIP", "NodePort"), ("ClusterIP", "LoadBalancer")] {
            on.cluster.set("web", "/spec/type", json!(type_)).await;
            let web = on.cluster.service("web").await;
            assert!(empty(&web), "{web}");
            on.create([node_port("other", 30_010)]).await;
            on.cluster.settled().await;
            // Its old number is another's now; a violating one is to be changed.
            on.cluster
                .edit("Service", "default/web", |o| {
                    o["spec"]["type"] = json!(back);
                    o["spec"]["ports"][0]["nodePort"] = json!(31_007);
                })
                .await;
            until_port(&on.cluster, "web", 30_011).await;
            on.cluster.delete("Service", "default/other").await;
            on.cluster.settled().await;
        }
        on.cluster
            .edit("Service", "default/web", |o| {
                o["spec"]["type"] = json!("ExternalName");
                o["spec"]["externalName"] = json!("example.com");
                for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    o["spec"][field] = Value::Null;
                }
            })
            .await;
        on.create([node_port("third", 30_011)]).await;
        on.cluster.settled().await;
        assert_eq!(port(&on.cluster.service("third").await), 30_011);
        on.fixed_point(running).await;
    }

    pub async fn a_pool_that_loses_a_port_changes_it_and_a_full_one_says_so(on: Stage) {
        on.create([rest(), enforcing(port_pool("team", &["30010", "30012"]))])
            .await;
        on.create([node_port("a", 30_010), node_port("b", 30_012)])
            .await;
        let running = on.start("one");
        on.cluster.settled().await;
        let ports = |ports: Value| {
            on.cluster.edit("NodePortPool", "team", move |o| {
                o["spec"]["ports"] = ports.clone();
            })
        };
        ports(json!(["30010", "30013"])).await;
        until_port(&on.cluster, "b", 30_013).await;
        ports(json!(["30013"])).await;
        let a = until_told(&on.cluster, "a", "PoolExhausted").await;
        assert_eq!(port(&a), 30_010);
        ports(json!(["30013-30014"])).await;
        until_port(&on.cluster, "a", 30_014).await;
        on.cluster
            .until_service("a", "is told nothing more", |o| told(o).is_empty())
            .await;
        // What a pool excludes is outside.
        on.cluster
            .edit("NodePortPool", "team", |o| {
                o["spec"]["ports"] = json!(["30013-30015"]);
                o["spec"]["exclude"] = json!(["30014"]);
            })
            .await;
        until_port(&on.cluster, "a", 30_015).await;
        // 30010 and 30012 lie in no pool any more: nothing is left of them.
        on.fixed_point(running).await;
    }

    pub async fn a_released_port_is_kept_for_its_owner(on: Stage) {
        let team = with(team(), "/spec/retainFor", json!("1h"));
        on.create([rest(), team, node_port("web", 30_010)]).await;
        let running = on.start("one");
        on.cluster.settled().await;
        on.cluster.delete("Service", "default/web").await;
        on.cluster.settled().await;
        on.create([node_port("other", 31_000)]).await;
        until_port(&on.cluster, "other", 30_011).await;
        on.create([node_port("web", 31_001)]).await;
        until_port(&on.cluster, "web", 30_010).await;
        on.fixed_point(running).await;
    }
}
