//! What a user gets when Portolan has given a Service its numbers.

use std::collections::BTreeSet;

use cluster::lab::AGNHOST;
use serde_json::{Value, json};

use super::{
    pods::{self, service},
    town::{Node, Town},
};

fn node_port(service: &Value) -> u16 {
    let port = service["spec"]["ports"][0]["nodePort"].as_u64();
    u16::try_from(port.unwrap()).unwrap()
}

/// The node with this name, and the other one.
fn node<'a>(town: &'a Town, name: &str) -> (&'a Node, &'a Node) {
    let (mut this, mut other) = (None, None);
    for node in &town.nodes {
        match node.name == name {
            true => this = Some(node),
            false => other = Some(node),
        }
    }
    (this.unwrap(), other.unwrap())
}

// As in the Kubernetes documentation: a Deployment, exposed, reached from everywhere.
pub(crate) fn hello_world_answers_by_its_address_its_node_ports_its_cluster_ip_and_its_variables(
    town: &Town,
) {
    let ns = &pods::namespace(town, "hello");
    let image = format!("--image={AGNHOST}");
    let create = [
        "-n",
        ns,
        "create",
        "deployment",
        "hello-world",
        "--replicas=2",
        "--port=8080",
    ];
    town.kubectl(&[&create[..], &[&image, "--", "/agnhost", "netexec"]].concat());
    let expose = ["-n", ns, "expose", "deployment", "hello-world"];
    town.kubectl(&[&expose[..], &["--type=LoadBalancer", "--name=my-service"]].concat());
    let address = town.address(ns, "my-service");
    let told = town.curl(&format!("http://{address}:8080/hostname"));
    assert!(told.starts_with("hello-world-"), "{told}");

    let service = town.get(ns, "service/my-service");
    let port = node_port(&service);
    for node in &town.nodes {
        let told = town.curl(&format!("http://{}:{port}/hostname", node.v4));
        assert!(told.starts_with("hello-world-"), "{}: {told}", node.name);
    }

    let from = pods::run(town, ns, "inside", 1).remove(0);
    let cluster_ip = service["spec"]["clusterIP"].as_str().unwrap();
    let told = from.dial(town, cluster_ip, 8080);
    assert!(told.starts_with("hello-world-"), "{told}");
    let told = from.dial(town, &address, 8080);
    assert!(told.starts_with("hello-world-"), "{told}");

    // The variables of every Service that was there when the pod started.
    let connect = "$(MY_SERVICE_SERVICE_HOST):$(MY_SERVICE_SERVICE_PORT)";
    town.apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": ns, "name": "variables"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{
                "name": "connect", "image": AGNHOST, "imagePullPolicy": "Never",
                "args": ["connect", "--timeout=5s", connect],
            }],
        },
    }));
    town.until("the pod connects by its variables", || {
        let pod = town.get(ns, "pod/variables");
        match pod["status"]["phase"].as_str() {
            Some("Succeeded") => Ok(()),
            Some("Failed") => panic!("{}", town.kubectl(&["-n", ns, "logs", "variables"])),
            _ => Err(pod["status"].to_string()),
        }
    });
}

pub(crate) fn one_port_number_serves_tcp_and_udp_by_named_target_ports(town: &Town) {
    let ns = &pods::namespace(town, "ports");
    let pod = pods::run(town, ns, "two", 1).remove(0);
    town.apply(&service(
        ns,
        "two",
        &json!({"ports": [
            {"name": "web", "port": 53, "targetPort": "http", "protocol": "TCP"},
            {"name": "names", "port": 53, "targetPort": "udp", "protocol": "UDP"},
            {"name": "other", "port": 8888, "targetPort": 8080, "protocol": "TCP"},
        ]}),
    ));
    let address = town.address(ns, "two");
    for port in [53, 8888] {
        let told = town.curl(&format!("http://{address}:{port}/hostname"));
        assert_eq!(told, pod.name, "port {port}");
    }
    assert_eq!(town.udp(&address, 53, "hostname"), pod.name);
}

pub(crate) fn with_local_policy_the_client_is_seen_and_only_its_node_is_healthy(town: &Town) {
    let ns = &pods::namespace(town, "local");
    let pod = pods::run(town, ns, "local", 1).remove(0);
    let (here, there) = node(town, &pod.node);
    town.apply(&service(
        ns,
        "local",
        &json!({"externalTrafficPolicy": "Local"}),
    ));
    let address = town.address(ns, "local");
    let url = format!("http://{address}/clientip");

    let found = town.get(ns, "service/local");
    let check = found["spec"]["healthCheckNodePort"].as_u64().unwrap();
    town.curl(&format!("http://{}:{check}/healthz", here.v4));
    // Each node's kube-proxy opens the port in its own time: until then, nobody listens there.
    let check = format!("http://{}:{check}/healthz", there.v4);
    town.until("the other node says 503", || {
        match town.try_curl(&check, "2") {
            Err(why) if why.contains("503") => Ok(()),
            told => Err(format!("{told:?}")),
        }
    });

    // The way to the node with the pod: the pod sees who asks.
    let host = format!("{address}/32");
    town.route(&host, here);
    let seen = town.curl(&url);
    let client = seen.rsplit_once(':').unwrap().0.to_owned();
    assert!(
        town.nodes.iter().all(|node| node.v4 != client),
        "a node stands in for the client: {seen}"
    );
    // The way to the other one: nobody answers.
    town.route(&host, there);
    assert!(town.try_curl(&url, "1").is_err());

    // With policy Cluster that way leads to the pod, too, and a node stands in for the client.
    let cluster = r#"{"spec": {"externalTrafficPolicy": "Cluster"}}"#;
    town.kubectl(&["-n", ns, "patch", "service", "local", "-p", cluster]);
    let seen = town.curl(&url);
    let asked = seen.rsplit_once(':').unwrap().0;
    assert_ne!(asked, client, "{seen}");
    assert_eq!(
        town.address(ns, "local"),
        address,
        "an address does not move"
    );
}

pub(crate) fn a_client_with_session_affinity_stays_with_one_pod(town: &Town) {
    let ns = &pods::namespace(town, "affinity");
    pods::run(town, ns, "many", 3);
    let names = |policy: &str| -> BTreeSet<String> {
        town.apply(&service(ns, "many", &json!({"sessionAffinity": policy})));
        let url = format!("http://{}/hostname", town.address(ns, "many"));
        town.curl(&url);
        (0..30).map(|_| town.try_curl(&url, "2").unwrap()).collect()
    };
    assert!(names("None").len() > 1);
    town.until("one pod answers all", || {
        let names = names("ClientIP"); // kube-proxy may need a moment to see the change
        if names.len() == 1 {
            Ok(())
        } else {
            Err(format!("{names:?}"))
        }
    });
}

pub(crate) fn a_service_without_selector_leads_to_its_own_endpoint_slice(town: &Town) {
    let ns = &pods::namespace(town, "slices");
    let pod = pods::run(town, ns, "chosen", 1).remove(0);
    let mut free = service(ns, "free", &json!({}));
    free["spec"]["selector"] = Value::Null;
    town.apply(&free);
    town.apply(&json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "namespace": ns, "name": "free-1",
            "labels": {"kubernetes.io/service-name": "free"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "web", "protocol": "TCP", "port": 8080}],
        "endpoints": [{"addresses": [pod.address], "conditions": {"ready": true}}],
    }));
    let address = town.address(ns, "free");
    assert_eq!(town.curl(&format!("http://{address}/hostname")), pod.name);
}

pub(crate) fn a_headless_service_is_left_alone_and_its_pods_are_reached(town: &Town) {
    let ns = &pods::namespace(town, "headless");
    let pods = pods::run(town, ns, "bodies", 2);
    town.apply(&service(
        ns,
        "bodies",
        &json!({"type": "ClusterIP", "clusterIP": "None"}),
    ));
    let slices = town.until("the pods are its endpoints", || {
        let slices = town.list("endpointslices", ns);
        let addresses: BTreeSet<String> = (slices.iter())
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == "bodies")
            .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
            .map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned())
            .collect();
        if addresses.len() == 2 {
            Ok(addresses)
        } else {
            Err(format!("{addresses:?}"))
        }
    });
    for (from, to) in [(&pods[0], &pods[1]), (&pods[1], &pods[0])] {
        assert!(slices.contains(&to.address));
        assert_eq!(from.dial(town, &to.address, 8080), to.name);
    }
    // A Service that comes later is served by then: the headless one would have been, too.
    town.apply(&service(ns, "later", &json!({})));
    town.address(ns, "later");
    let left = town.get(ns, "service/bodies");
    assert_eq!(left["status"], json!({"loadBalancer": {}}));
    assert_eq!(left["metadata"]["finalizers"], Value::Null);
    assert_eq!(left["spec"]["clusterIPs"], json!(["None"]));
}

pub(crate) fn both_families_answer(town: &Town) {
    let ns = &pods::namespace(town, "families");
    let pod = pods::run(town, ns, "both", 1).remove(0);
    town.apply(&service(
        ns,
        "both",
        &json!({"ipFamilyPolicy": "RequireDualStack"}),
    ));
    for address in town.addresses(ns, "both", 2) {
        let host = match address.contains(':') {
            true => format!("[{address}]"),
            false => address,
        };
        assert_eq!(town.curl(&format!("http://{host}/hostname")), pod.name);
    }
}

pub(crate) fn a_node_port_that_a_policy_changes_answers_and_the_old_one_is_closed(town: &Town) {
    const OLD: [u16; 2] = [31_080, 31_081];
    let ns = &pods::namespace(town, "policy");
    let pod = pods::run(town, ns, "moved", 1).remove(0);
    let ports = |[web, names]: [u16; 2]| {
        json!([
            {"name": "web", "port": 80, "targetPort": "http", "nodePort": web},
            {"name": "names", "port": 53, "targetPort": "udp", "protocol": "UDP", "nodePort": names},
        ])
    };
    let fields = json!({"type": "NodePort", "ports": ports(OLD)});
    town.apply(&service(ns, "moved", &fields));
    let answers = |[web, names]: [u16; 2]| {
        for node in &town.nodes {
            let told = town.curl(&format!("http://{}:{web}/hostname", node.v4));
            assert_eq!(told, pod.name, "{}", node.name);
            assert_eq!(town.udp(&node.v4, names, "hostname"), pod.name);
        }
    };
    answers(OLD);
    town.apply(&json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "NodePortPool",
        "metadata": {"name": ns},
        "spec": {"ports": ["30900-30909"], "namespaces": [ns], "enforce": true},
    }));
    let new = town.until("both nodePorts are the pool's", || {
        let found = town.get(ns, "service/moved");
        let port = |place: usize| {
            let port = found["spec"]["ports"][place]["nodePort"].as_u64();
            u16::try_from(port.unwrap()).unwrap()
        };
        let new = [port(0), port(1)];
        match new.iter().all(|port| (30_900..30_910).contains(port)) {
            true => Ok(new),
            false => Err(format!("{new:?}")),
        }
    });
    answers(new);
    for node in &town.nodes {
        // Each node's kube-proxy closes them in its own time.
        town.until("the old TCP port is closed", || {
            match town.try_curl(&format!("http://{}:{}/hostname", node.v4, OLD[0]), "1") {
                Ok(told) => Err(told),
                Err(_) => Ok(()),
            }
        });
        town.until("the old UDP port is closed", || {
            match town.try_udp(&node.v4, OLD[1], "hostname") {
                Ok(told) => Err(told),
                Err(_) => Ok(()),
            }
        });
    }
    answers(new);
    town.kubectl(&["delete", "nodeportpool", ns]);
}

pub(crate) fn an_address_given_back_no_longer_answers(town: &Town) {
    let ns = &pods::namespace(town, "back");
    let pod = pods::run(town, ns, "back", 1).remove(0);
    town.apply(&service(ns, "back", &json!({})));
    let url = format!("http://{}/hostname", town.address(ns, "back"));
    assert_eq!(town.curl(&url), pod.name);
    let plain = r#"{"spec": {"type": "ClusterIP"}}"#;
    town.kubectl(&["-n", ns, "patch", "service", "back", "-p", plain]);
    town.until("it does not answer there", || {
        match town.try_curl(&url, "1") {
            Ok(told) => Err(told),
            Err(_) => Ok(()),
        }
    });
    town.until("nothing of ours is left on it", || {
        match &town.get(ns, "service/back")["status"] {
            status if *status == json!({"loadBalancer": {}}) => Ok(()),
            status => Err(status.to_string()),
        }
    });
    let again = r#"{"spec": {"type": "LoadBalancer"}}"#;
    town.kubectl(&["-n", ns, "patch", "service", "back", "-p", again]);
    let url = format!("http://{}/hostname", town.address(ns, "back"));
    assert_eq!(town.curl(&url), pod.name);
}
