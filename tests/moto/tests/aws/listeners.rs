use crate::lab::{Lab, forward, lab, weighted};
use crate::sentences;

async fn tls(lab: &Lab, balancer: &str, group: &str, certificate: &str) -> String {
    let certificate = format!("Certificates.member.1.CertificateArn={certificate}");
    let wanted = format!(
        "LoadBalancerArn={balancer} Protocol=TLS Port=443 {certificate} {}",
        forward(group)
    );
    let made = lab.ok("CreateListener", &wanted).await;
    made.first("ListenerArn").unwrap()
}

async fn seen(lab: &Lab, listener: &str) -> moto::Reply {
    let of = format!("ListenerArns.member.1={listener}");
    lab.ok("DescribeListeners", &of).await
}

sentences! {
    async fn a_listener_has_net_in_its_arn() {
        let lab = lab(&[]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        let listener = lab.listener(&balancer, 80, &group).await;
        let prefix = balancer.replace(":loadbalancer/", ":listener/") + "/";
        assert!(listener.starts_with(&prefix) && prefix.contains(":listener/net/lb/"), "{listener}");
    }

    async fn a_port_has_one_listener() {
        let lab = lab(&[]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP_UDP").await);
        let other = lab.listener(&balancer, 81, &group).await;
        let listener = lab.listener(&balancer, 80, &group).await;
        let udp = format!("LoadBalancerArn={balancer} Protocol=UDP Port=80 {}", forward(&group));
        lab.refused("CreateListener", &udp, "DuplicateListener").await;
        lab.refused("ModifyListener", &format!("ListenerArn={other} Port=80"), "DuplicateListener").await;
        lab.ok("ModifyListener", &format!("ListenerArn={listener} Port=80")).await;
    }

    async fn a_listener_changes_between_all_protocols_of_network_load_balancers() {
        let lab = lab(&[]).await;
        let certificate = lab.aws.certificate("a").await.unwrap();
        let balancer = lab.balancer("lb").await;
        let (tcp, both) = (lab.group("tcp", "TCP").await, lab.group("both", "TCP_UDP").await);
        let listener = lab.listener(&balancer, 80, &tcp).await;
        let with = format!("Certificates.member.1.CertificateArn={certificate} AlpnPolicy.member.1=HTTP2Only");
        for (protocol, group, more) in [("UDP", &both, ""), ("TLS", &tcp, &*with), ("TCP_UDP", &both, ""), ("TCP", &tcp, "")] {
            let set = format!("ListenerArn={listener} Protocol={protocol} {} {more}", forward(group));
            lab.ok("ModifyListener", &set).await;
            let now = seen(&lab, &listener).await;
            assert_eq!(now.first("Protocol").as_deref(), Some(protocol));
            let policy = (protocol == "TLS").then(|| "ELBSecurityPolicy-2016-08".to_owned());
            assert_eq!(now.first("SslPolicy"), policy);
            assert_eq!(now.body.contains("HTTP2Only"), protocol == "TLS", "{now:?}");
            assert_eq!(now.first("CertificateArn").is_some(), protocol == "TLS");
        }
        let wrong = format!("ListenerArn={listener} Protocol=UDP");
        lab.refused("ModifyListener", &wrong, "IncompatibleProtocols").await;
    }

    async fn certificate_policy_and_alpn_are_for_tls_which_needs_the_first() {
        let lab = lab(&[]).await;
        let certificate = lab.aws.certificate("a").await.unwrap();
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        let wanted = |protocol: &str, more: &str| format!("LoadBalancerArn={balancer} Protocol={protocol} Port=80 {} {more}", forward(&group));
        let with = format!("Certificates.member.1.CertificateArn={certificate}");
        let policy = "SslPolicy=ELBSecurityPolicy-TLS13-1-2-2021-06";
        for (wanted, code) in [
            (wanted("TCP", &with), "ValidationError"),
            (wanted("TCP", policy), "ValidationError"),
            (wanted("TCP", "AlpnPolicy.member.1=HTTP2Only"), "ValidationError"),
            (wanted("TLS", ""), "ValidationError"),
            (wanted("TLS", "Certificates.member.1.CertificateArn=arn:aws:acm:eu-central-1:123456789012:certificate/x"), "CertificateNotFound"),
            (wanted("TLS", &format!("{with} SslPolicy=none")), "SSLPolicyNotFound"),
            (wanted("TLS", &format!("{with} AlpnPolicy.member.1=h2")), "ALPNPolicyNotFound"),
        ] {
            lab.refused("CreateListener", &wanted, code).await;
        }
        let made = lab.ok("CreateListener", &wanted("TLS", &format!("{with} {policy} AlpnPolicy.member.1=HTTP2Preferred"))).await;
        let now = seen(&lab, &made.first("ListenerArn").unwrap()).await;
        assert!(now.body.contains("TLS13-1-2-2021-06") && now.body.contains("HTTP2Preferred"), "{now:?}");
    }

    async fn a_listener_forwards_to_several_weighted_groups() {
        let lab = lab(&[]).await;
        let (balancer, one, two) = (lab.balancer("lb").await, lab.group("one", "TCP").await, lab.group("two", "TCP").await);
        let listener = lab.listener(&balancer, 80, &one).await;
        assert_eq!(seen(&lab, &listener).await.all("Weight"), ["1"]);
        let set = |groups: &[(&str, u16)]| format!("ListenerArn={listener} {}", weighted(groups));
        lab.ok("ModifyListener", &set(&[(&one, 0), (&two, 999)])).await;
        let now = seen(&lab, &listener).await;
        assert_eq!(now.all("TargetGroupArn"), [&*one, &two]);
        assert_eq!(now.all("Weight"), ["0", "999"]);
        lab.refused("ModifyListener", &set(&[(&one, 1000)]), "ValidationError").await;
        lab.refused("ModifyListener", &set(&[(&one, 1), (&one, 1)]), "ValidationError").await;
        lab.ok("ModifyListener", &format!("ListenerArn={listener} Port=81")).await;
        assert_eq!(seen(&lab, &listener).await.all("Weight"), ["0", "999"], "kept");
    }

    async fn certificates_are_added_listed_and_removed_beside_the_default_one() {
        let lab = lab(&[]).await;
        let (default, more) = (lab.aws.certificate("a").await.unwrap(), lab.aws.certificate("b").await.unwrap());
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        let listener = tls(&lab, &balancer, &group, &default).await;
        let change = |certificate: &str| format!("ListenerArn={listener} Certificates.member.1.CertificateArn={certificate}");
        for _ in 0..2 {
            lab.ok("AddListenerCertificates", &change(&more)).await;
        }
        let of = format!("ListenerArn={listener}");
        let listed = lab.ok("DescribeListenerCertificates", &of).await;
        assert_eq!(listed.all("CertificateArn"), [&*default, &more]);
        assert_eq!(listed.all("IsDefault"), ["true", "false"]);
        assert_eq!(seen(&lab, &listener).await.all("CertificateArn"), [&*default]);
        lab.refused("RemoveListenerCertificates", &change(&default), "OperationNotPermitted").await;
        lab.ok("RemoveListenerCertificates", &change(&more)).await;
        let listed = lab.ok("DescribeListenerCertificates", &of).await;
        assert_eq!(listed.all("CertificateArn"), [&*default]);
        lab.refused("AddListenerCertificates", &change("arn:aws:acm:eu-central-1:123456789012:certificate/x"), "CertificateNotFound").await;
    }

    async fn only_a_tcp_listener_has_an_idle_timeout() {
        let lab = lab(&[]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP_UDP").await);
        let listener = lab.listener(&balancer, 80, &group).await;
        let (of, key) = (format!("ListenerArn={listener}"), "tcp.idle_timeout.seconds");
        let read = "DescribeListenerAttributes";
        assert_eq!(lab.attribute(read, &of, key).await.as_deref(), Some("350"));
        let set = |value| format!("{of} Attributes.member.1.Key={key} Attributes.member.1.Value={value}");
        lab.ok("ModifyListenerAttributes", &set("6000")).await;
        assert_eq!(lab.attribute(read, &of, key).await.as_deref(), Some("6000"));
        lab.refused("ModifyListenerAttributes", &set("59"), "ValidationError").await;
        lab.ok("ModifyListener", &format!("{of} Protocol=UDP")).await;
        assert_eq!(lab.attribute(read, &of, key).await, None);
        lab.refused("ModifyListenerAttributes", &set("60"), "InvalidConfigurationRequest").await;
    }

    async fn listeners_come_in_pages() {
        let lab = lab(&[]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        let of = format!("LoadBalancerArn={balancer}");
        for port in [3, 1, 2] {
            lab.listener(&balancer, port, &group).await;
        }
        let first = lab.ok("DescribeListeners", &format!("{of} PageSize=2")).await;
        let marker = first.first("NextMarker").unwrap();
        let next = lab.ok("DescribeListeners", &format!("{of} Marker={marker}")).await;
        assert_eq!([first.all("Port"), next.all("Port")].concat(), ["3", "1", "2"]);
    }
}
