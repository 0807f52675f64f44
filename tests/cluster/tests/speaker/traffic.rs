//! What a user gets from an announced address.

use serde_json::json;

use super::{
    pods,
    town::{PROMISED, SHOP, Town, dual},
    watch::now,
};

pub(crate) fn a_new_address_answers_within_a_second_and_says_where(town: &mut Town) {
    let addresses = ["10.200.0.190", "fd00:200::1:7"].map(str::to_owned);
    let watch = town.watch(&addresses);
    let created = now();
    let mut service = dual("new", &json!({}));
    service["metadata"]["annotations"] = json!({"portolan.dev/addresses": addresses.join(",")});
    town.apply(&service);
    assert_eq!(town.addresses(SHOP, "new", 2), addresses);
    let owner = town.owner(&addresses[0]);
    assert_eq!(town.owner(&addresses[1]), owner, "both families agree");
    let record = watch.end();
    for ip in &addresses {
        let first = record.of(ip).next().unwrap();
        let took = first.at - created;
        println!("{ip} answers after {took:.0} ms");
        assert!(
            took < PROMISED + 1_000.0 + record.stalled,
            "{ip}: {took} ms with the time of kubectl"
        );
        let served = town.curl(ip, "/hostname");
        assert!(served.starts_with("web-"), "{served}");
    }
    // The client's own kernel has learnt who it is.
    let neighbours = town.run(town.client("ip").args(["neigh", "show", &addresses[0]]));
    assert!(neighbours.contains(&town.mac(owner)), "{neighbours}");

    // Who answers, told in both ways.
    town.until("the status of the node names the Service", || {
        let table = town.kubectl(&["get", "speakerstatuses"]);
        let line = table.lines().find(|line| line.starts_with(owner));
        match line.is_some_and(|line| line.contains("shop/new")) {
            true => Ok(()),
            false => Err(table),
        }
    });
    town.until("the condition names the node and the interface", || {
        let told = town.condition("new", "portolan.dev/LoadBalancerReady");
        let message = told["message"].as_str().unwrap_or_default();
        match message.contains(owner) && message.contains("eth0") && told["status"] == "True" {
            true => Ok(()),
            false => Err(told.to_string()),
        }
    });
    town.kubectl(&["-n", SHOP, "delete", "service", "new"]);
    for ip in &addresses {
        town.silent(ip);
    }
}

pub(crate) fn services_that_share_an_address_have_one_owner(town: &mut Town) {
    let one = town.serve("one", &json!({}));
    let mut other = dual(
        "other",
        &json!({"ports": [{"port": 81, "targetPort": "http"}]}),
    );
    for name in ["one", "other"] {
        let key = ["portolan.dev/sharing-key=shared", "--overwrite"];
        if name == "other" {
            other["metadata"]["annotations"] = json!({
                "portolan.dev/sharing-key": "shared", "portolan.dev/addresses": one.join(","),
            });
            town.apply(&other);
        } else {
            town.kubectl(&[&["-n", SHOP, "annotate", "service", name][..], &key].concat());
        }
    }
    assert_eq!(town.addresses(SHOP, "other", 2), one);
    let announcements = town.list("announcements", "");
    let ours = announcements.iter().filter(|announcement| {
        let services = announcement["spec"]["services"].to_string();
        services.contains("shop/one") || services.contains("shop/other")
    });
    assert_eq!(ours.count(), 1, "{announcements:?}");
    let owner = town.owner(&one[0]);
    town.lab.unplug(owner).unwrap();
    for ip in &one {
        town.until("another answers", || match town.owner(ip) {
            node if node == owner => Err(node.to_owned()),
            node => Ok(node),
        });
        for port in ["", ":81"] {
            // A pod of the node that is gone is still in the rules for a while.
            let path = format!("{port}/hostname");
            town.curl(ip, &path);
        }
    }
    town.lab.plug(owner).unwrap();
}

pub(crate) fn with_local_policy_only_nodes_with_an_endpoint_answer(town: &mut Town) {
    let addresses = town.serve("local", &json!({}));
    let pod = pods::run(town, SHOP, "alone", 1).remove(0);
    // From now on only the node of that pod will do.
    let local = json!({"spec": {
        "externalTrafficPolicy": "Local", "selector": {"app": "alone"},
    }});
    let local = local.to_string();
    town.kubectl(&["-n", SHOP, "patch", "service", "local", "-p", &local]);
    for ip in &addresses {
        town.until("the pod's node answers", || match town.owner(ip) {
            node if node == pod.node => Ok(()),
            node => Err(format!("{node} instead of {}", pod.node)),
        });
        let seen = town.until("the pod sees the client", || {
            town.try_curl(ip, "/clientip", "1")
        });
        let client = if ip.contains(':') {
            "[fd00:200::64]"
        } else {
            "10.200.0.100"
        };
        assert!(seen.starts_with(client), "{seen}");
    }
    // The pod goes elsewhere, and the addresses with it.
    let cordon = town.kubectl(&["cordon", &pod.node]);
    assert!(cordon.contains("cordoned"), "{cordon}");
    town.kubectl(&["-n", SHOP, "delete", "pod", &pod.name]);
    for ip in &addresses {
        town.until("the pod's new node answers", || match town.owner(ip) {
            node if node == pod.node => Err(node.to_owned()),
            _ => Ok(()),
        });
        town.curl(ip, "/hostname");
    }
    town.kubectl(&["uncordon", &pod.node]);
    // With policy Cluster every node will do again.
    let cluster = r#"{"spec": {"externalTrafficPolicy": "Cluster"}}"#;
    town.kubectl(&["-n", SHOP, "patch", "service", "local", "-p", cluster]);
    for ip in &addresses {
        town.curl(ip, "/hostname");
    }
    town.kubectl(&["-n", SHOP, "delete", "deployment", "alone"]);
}

pub(crate) fn without_endpoints_nobody_answers_and_the_service_says_so(town: &mut Town) {
    let addresses = town.serve("empty", &json!({}));
    let nobody = r#"{"spec": {"selector": {"app": "nobody"}}}"#;
    town.kubectl(&["-n", SHOP, "patch", "service", "empty", "-p", nobody]);
    for ip in &addresses {
        town.silent(ip);
    }
    town.until("the condition says why", || {
        let told = town.condition("empty", "portolan.dev/LoadBalancerReady");
        match told["message"]
            .as_str()
            .is_some_and(|m| m.contains("endpoint"))
        {
            true => Ok(()),
            false => Err(told.to_string()),
        }
    });
    let web = r#"{"spec": {"selector": {"app": "web"}}}"#;
    town.kubectl(&["-n", SHOP, "patch", "service", "empty", "-p", web]);
    for ip in &addresses {
        town.owner(ip);
        town.curl(ip, "/hostname");
    }
}
