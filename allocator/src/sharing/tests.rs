use super::*;

fn terms(key: &str, with: &str, ports: &str, policy: TrafficPolicy, backend: &str) -> Sharing {
    Terms {
        key: key.into(),
        with: with.split_whitespace().map(Into::into).collect(),
        ports: ports.split_whitespace().map(|port| port.parse().unwrap()).collect(),
        policy,
        backend: backend.into(),
    }
    .into()
}

#[test]
fn two_services_share_on_equal_terms_only() {
    use TrafficPolicy::{Cluster, Local};
    let web = terms("k", "", "TCP/80 TCP/443", Cluster, "app=web");
    let local = terms("k", "", "TCP/80", Local, "app=web");
    for (own, namespace, other, expected) in [
        (&web, "a", terms("k", "", "UDP/443", Cluster, "app=other"), Ok(())),
        (&web, "a", terms("other", "", "UDP/443", Cluster, ""), Err(Obstacle::OtherKey)),
        (&web, "a", terms("k", "", "TCP/443", Cluster, ""), Err(Obstacle::Port("TCP/443".parse().unwrap()))),
        (&web, "a", terms("k", "", "TCP/81", Local, ""), Err(Obstacle::Policy)),
        (&web, "b", terms("k", "", "TCP/81", Cluster, ""), Err(Obstacle::Namespace)),
        (&web, "b", terms("k", "a", "TCP/81", Cluster, ""), Err(Obstacle::Namespace)),
        (&terms("k", "b", "TCP/80", Cluster, ""), "b", terms("k", "", "TCP/81", Cluster, ""), Err(Obstacle::Namespace)),
        (&terms("k", "c b", "TCP/80", Cluster, ""), "b", terms("k", "a", "TCP/81", Cluster, ""), Ok(())),
        (&local, "a", terms("k", "", "TCP/81", Local, "app=web"), Ok(())),
        (&local, "a", terms("k", "", "TCP/81", Local, "app=other"), Err(Obstacle::Backend)),
    ] {
        assert_eq!(may_share("a", own, namespace, &other), expected);
        assert_eq!(may_share(namespace, &other, "a", own), expected, "either way round");
    }
}
