use model::{Port, Protocol};

use super::*;

/// Ports `http` TCP/80, `https` TCP/443 and `quic` UDP/443 (which has nodePort 30443).
fn ports() -> Vec<ServicePort> {
    let port = |name: &str, protocol, number, node_port| ServicePort {
        name: name.into(),
        port: Port { protocol, number },
        node_port,
    };
    vec![
        port("http", Protocol::Tcp, 80, 0),
        port("https", Protocol::Tcp, 443, 0),
        port("quic", Protocol::Udp, 443, 30443),
    ]
}

fn read_with(
    annotations: &[(&str, &str)],
    load_balancer_ip: Option<&str>,
    ports: &[ServicePort],
    policy: TrafficPolicy,
) -> Result<LoadBalancerRequest, Rejection> {
    let annotations = annotations
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let selector = BTreeMap::from([
        ("tier".to_owned(), "front".to_owned()),
        ("app".to_owned(), "web".to_owned()),
    ]);
    parse(&annotations, load_balancer_ip, ports, policy, &selector)
}

fn read(annotations: &[(&str, &str)]) -> Result<LoadBalancerRequest, Rejection> {
    read_with(annotations, None, &ports(), TrafficPolicy::Cluster)
}

fn rejected(annotations: &[(&str, &str)]) -> (Reason, String) {
    let rejection = read(annotations).expect_err("it is wrong");
    (rejection.reason, rejection.message)
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_service_without_annotations_asks_for_nothing() {
    let request = read(&[("example.com/note", "x"), ("portolan.dev/unknown", "")]);
    assert_eq!(request, Ok(LoadBalancerRequest::default()));
}

#[test]
fn every_name_of_a_pool_is_read() {
    for name in POOL_SOURCES {
        let request = read(&[(name, " production ")]).unwrap();
        assert_eq!(request.pool.as_deref(), Some("production"), "{name}");
    }
}

#[test]
fn every_name_of_addresses_is_read() {
    for name in ADDRESS_SOURCES {
        let request = read(&[(name, "2001:DB8:0::7, 203.0.113.7")]).unwrap();
        let wanted = ips(&["203.0.113.7", "2001:db8::7"]);
        assert_eq!(request.addresses, wanted, "{name}");
    }
}

#[test]
fn every_name_of_a_sharing_key_is_read() {
    for name in KEY_SOURCES {
        let sharing = read(&[(name, "web")]).unwrap().sharing.unwrap();
        assert_eq!(&*sharing.key, "web", "{name}");
    }
}

#[test]
fn spec_load_balancer_ip_is_read_and_may_be_empty() {
    let with = |ip| read_with(&[], Some(ip), &ports(), TrafficPolicy::Cluster);
    assert_eq!(
        with("203.0.113.7").unwrap().addresses,
        ips(&["203.0.113.7"])
    );
    assert_eq!(with("").unwrap().addresses, ips(&[]));
}

#[test]
fn an_unreadable_spec_load_balancer_ip_is_named() {
    let rejection = read_with(&[], Some("web.example"), &ports(), TrafficPolicy::Cluster);
    assert_eq!(
        rejection.unwrap_err().message,
        "spec.loadBalancerIP: \"web.example\" is not an IP address or one of each family \
         separated by a comma; write for example \"203.0.113.7\" or \"203.0.113.7,2001:db8::7\""
    );
}

#[test]
fn sources_that_agree_are_fine_in_any_order_and_notation() {
    let request = read_with(
        &[
            (ADDRESSES, "203.0.113.7"),
            ("metallb.io/loadBalancerIPs", "::ffff:203.0.113.7"),
            (
                "metallb.universe.tf/loadBalancerIPs",
                "203.0.113.7,203.0.113.7",
            ),
        ],
        Some("203.0.113.7"),
        &ports(),
        TrafficPolicy::Cluster,
    );
    assert_eq!(request.unwrap().addresses, ips(&["203.0.113.7"]));
    let swapped = read(&[
        (ADDRESSES, "2001:db8::7,203.0.113.7"),
        ("metallb.io/loadBalancerIPs", "203.0.113.7,2001:db8::7"),
    ]);
    assert!(swapped.is_ok(), "{swapped:?}");
}

#[test]
fn sources_that_disagree_are_both_named_with_their_values() {
    let rows: [(&[(&str, &str)], &str); 3] = [
        (
            &[(ADDRESS_POOL, "a"), ("metallb.io/address-pool", "b")],
            "annotation portolan.dev/address-pool is \"a\" but annotation metallb.io/address-pool \
             is \"b\": remove one of them or make them equal",
        ),
        (
            &[
                (ADDRESSES, "10.0.0.1"),
                ("metallb.universe.tf/loadBalancerIPs", "10.0.0.2"),
            ],
            "annotation portolan.dev/addresses is \"10.0.0.1\" but annotation \
             metallb.universe.tf/loadBalancerIPs is \"10.0.0.2\": remove one of them or make them \
             equal",
        ),
        (
            &[(SHARING_KEY, "a"), ("metallb.io/allow-shared-ip", "b")],
            "annotation portolan.dev/sharing-key is \"a\" but annotation \
             metallb.io/allow-shared-ip is \"b\": remove one of them or make them equal",
        ),
    ];
    for (annotations, text) in rows {
        let wanted = (Reason::ConflictingRequest, text.to_owned());
        assert_eq!(rejected(annotations), wanted);
    }
}

#[test]
fn an_annotation_and_spec_load_balancer_ip_that_disagree_are_both_named() {
    let rejection = read_with(
        &[(ADDRESSES, "10.0.0.1,2001:db8::7")],
        Some("10.0.0.1"),
        &ports(),
        TrafficPolicy::Cluster,
    )
    .unwrap_err();
    assert_eq!(rejection.reason, Reason::ConflictingRequest);
    assert_eq!(
        rejection.message,
        "annotation portolan.dev/addresses is \"10.0.0.1,2001:db8::7\" but spec.loadBalancerIP is \
         \"10.0.0.1\": remove one of them or make them equal"
    );
}

#[test]
fn what_cannot_be_read_is_named_with_its_value_and_the_form_wanted() {
    const POOL: &str =
        "is not the name of a pool; write the metadata.name of one, for example \"production\"";
    const ADDRESS: &str = "is not an IP address or one of each family separated by a comma; write \
                           for example \"203.0.113.7\" or \"203.0.113.7,2001:db8::7\"";
    const KEY: &str =
        "is not a sharing key; write 1 to 253 printable characters, for example \"web\"";
    const PORTS: &str = "is not a list of port name and nodePort; write for example \
                         \"http=30080,https=30443\", or \"30080\" when the port has no name";
    const NAMESPACES: &str = "is not a list of at most 256 namespaces separated by commas; write \
                              for example \"team-a,team-b\"";
    let rows = [
        (ADDRESS_POOL, "", "\"\"", POOL),
        (ADDRESS_POOL, "Prod uction", "\"Prod uction\"", POOL),
        (ADDRESS_POOL, "-a", "\"-a\"", POOL),
        ("metallb.io/address-pool", "", "\"\"", POOL),
        (NODE_PORT_POOL, "", "\"\"", POOL),
        (ADDRESSES, "", "\"\"", ADDRESS),
        (ADDRESSES, "10.0.0.300", "\"10.0.0.300\"", ADDRESS),
        (ADDRESSES, "10.0.0.01", "\"10.0.0.01\"", ADDRESS),
        (ADDRESSES, "10.0.0.1,", "\"10.0.0.1,\"", ADDRESS),
        (ADDRESSES, "10.0.0.0/24", "\"10.0.0.0/24\"", ADDRESS),
        (ADDRESSES, "fe80::1%eth0", "\"fe80::1%eth0\"", ADDRESS),
        (
            ADDRESSES,
            "10.0.0.1,10.0.0.2",
            "\"10.0.0.1,10.0.0.2\"",
            "names more than one IPv4 address; a Service gets one of each family: keep one",
        ),
        (
            "metallb.io/loadBalancerIPs",
            "::1,::2",
            "\"::1,::2\"",
            "names more than one IPv6 address; a Service gets one of each family: keep one",
        ),
        (SHARING_KEY, " ", "\"\"", KEY),
        (SHARING_KEY, "a\u{7}b", "\"a\\u{7}b\"", KEY),
        (SHARE_WITH_NAMESPACES, "", "\"\"", NAMESPACES),
        (SHARE_WITH_NAMESPACES, "a,*", "\"a,*\"", NAMESPACES),
        (NODE_PORTS, "", "\"\"", PORTS),
        (NODE_PORTS, "http", "\"http\"", PORTS),
        (NODE_PORTS, "http=0", "\"http=0\"", PORTS),
        (NODE_PORTS, "http=70000", "\"http=70000\"", PORTS),
        (
            NODE_PORTS,
            "web=30080",
            "\"web=30080\"",
            "names the port \"web\", which is not in spec.ports; write one of \"http\", \"https\", \
             \"quic\"",
        ),
        (
            NODE_PORTS,
            "http=30080,http=30081",
            "\"http=30080,http=30081\"",
            "names the port \"http\" more than once: keep one",
        ),
        (
            NODE_PORTS,
            "http=30080,https=30080",
            "\"http=30080,https=30080\"",
            "gives the nodePort 30080 to two TCP ports of this Service: change one",
        ),
    ];
    for (name, value, shown, what) in rows {
        let text = format!("annotation {name}: {shown} {what}");
        let wanted = (Reason::InvalidRequest, text);
        assert_eq!(rejected(&[(name, value)]), wanted);
    }
}

#[test]
fn a_long_or_unprintable_value_is_shown_in_part_and_escaped() {
    let (_, message) = rejected(&[(ADDRESSES, &"x\n".repeat(5000))]);
    let shown = format!("\"{}…\"", "x\\n".repeat(32));
    assert!(message.contains(&shown), "{message}");
    assert_eq!(quoted("a\u{202e}\u{1b}\"b"), "\"a\\u{202e}\\u{1b}\\\"b\"");
    assert_eq!(quoted(&"é".repeat(64)), format!("\"{}\"", "é".repeat(64)));
}

#[test]
fn sharing_carries_the_sorted_ports_and_the_namespaces() {
    let request = read(&[(SHARING_KEY, "web"), (SHARE_WITH_NAMESPACES, "b, a,b")]).unwrap();
    let wanted = Terms {
        key: "web".into(),
        with: vec!["a".into(), "b".into()],
        ports: ["TCP/80", "TCP/443", "UDP/443"]
            .map(|port| port.parse().unwrap())
            .to_vec(),
        policy: TrafficPolicy::Cluster,
        backend: "".into(),
    };
    assert_eq!(request.sharing, Some(Sharing::from(wanted)));
}

#[test]
fn with_local_the_backend_is_the_selector_in_canonical_form() {
    let request = read_with(
        &[(SHARING_KEY, "web")],
        None,
        &ports(),
        TrafficPolicy::Local,
    );
    assert_eq!(
        &*request.unwrap().sharing.unwrap().backend,
        "app=web,tier=front"
    );
}

#[test]
fn share_with_namespaces_needs_a_sharing_key() {
    let wanted = "annotation portolan.dev/share-with-namespaces has no effect without a sharing \
                  key: add portolan.dev/sharing-key or remove it";
    let found = rejected(&[(SHARE_WITH_NAMESPACES, "a")]);
    assert_eq!(found, (Reason::InvalidRequest, wanted.to_owned()));
}

#[test]
fn node_ports_are_read_by_port_name() {
    let request = read(&[
        (NODE_PORTS, "https = 30444, http=30080"),
        (NODE_PORT_POOL, "low"),
    ]);
    let request = request.unwrap();
    let wanted = vec![("https".into(), 30444), ("http".into(), 30080)];
    assert_eq!(request.node_ports, wanted);
    assert_eq!(request.node_port_pool.as_deref(), Some("low"));
}

#[test]
fn tcp_and_udp_may_ask_for_the_same_node_port() {
    let request = read(&[(NODE_PORTS, "https=30443")]);
    assert_eq!(request.unwrap().node_ports, vec![("https".into(), 30443)]);
}

#[test]
fn the_one_port_without_a_name_takes_a_bare_number() {
    let mut only = ports();
    only.truncate(1);
    only[0].name = "".into();
    let read = |value| read_with(&[(NODE_PORTS, value)], None, &only, TrafficPolicy::Cluster);
    assert_eq!(read("30080").unwrap().node_ports, vec![("".into(), 30080)]);
    assert_eq!(
        read("http=30080").unwrap_err().message,
        "annotation portolan.dev/node-ports: \"http=30080\" names the port \"http\", which is not \
         in spec.ports; write the number alone, as its port has no name"
    );
}

#[test]
fn a_stored_address_may_have_leading_zeros_as_kubernetes_tolerates_them() {
    let rows = [
        ("010.000.0.08", Some("10.0.0.8")),
        ("::ffff:10.0.0.8", Some("10.0.0.8")),
        ("2001:DB8:0:0::1", Some("2001:db8::1")),
        ("10.0.0", None),
        ("10.0.0.256", None),
        ("10.0.+0.1", None),
        ("", None),
    ];
    for (text, wanted) in rows {
        let wanted = wanted.map(|text| text.parse().unwrap());
        assert_eq!(stored_address(text), wanted, "{text:?}");
    }
}
