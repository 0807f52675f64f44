use crate::lab::lab;
use crate::sentences;

sentences! {
    async fn to_create_a_target_group_again_succeeds_and_other_settings_are_refused() {
        let lab = lab(&[]).await;
        let first = lab.group("one", "TCP").await;
        assert_eq!(lab.group("one", "TCP").await, first);
        let other = format!("{} HealthCheckProtocol=HTTP", lab.wanted_group("one", "TCP"));
        lab.refused("CreateTargetGroup", &other, "DuplicateTargetGroupName").await;
        let all = lab.ok("DescribeTargetGroups", "").await;
        assert_eq!(all.all("TargetGroupArn"), [first]);
    }

    async fn a_target_group_has_the_attributes_of_network_load_balancers_and_no_others() {
        let lab = lab(&[]).await;
        let (tcp, udp) = (lab.group("tcp", "TCP").await, lab.group("udp", "UDP").await);
        let read = "DescribeTargetGroupAttributes";
        for (key, of_tcp, of_udp) in [
            ("deregistration_delay.timeout_seconds", "300", "300"),
            ("deregistration_delay.connection_termination.enabled", "false", "true"),
            ("preserve_client_ip.enabled", "true", "true"),
            ("proxy_protocol_v2.enabled", "false", "false"),
            ("stickiness.enabled", "false", "false"),
            ("stickiness.type", "source_ip", "source_ip"),
            ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration", "use_load_balancer_configuration"),
            ("target_health_state.unhealthy.connection_termination.enabled", "true", "false"),
            ("target_health_state.unhealthy.draining_interval_seconds", "0", "0"),
            ("target_group_health.dns_failover.minimum_healthy_targets.count", "1", "1"),
        ] {
            for (arn, value) in [(&tcp, of_tcp), (&udp, of_udp)] {
                let seen = lab.attribute(read, &format!("TargetGroupArn={arn}"), key).await;
                assert_eq!(seen.as_deref(), Some(value), "{key}");
            }
        }
        let of = format!("TargetGroupArn={tcp}");
        assert_eq!(lab.attribute(read, &of, "load_balancing.algorithm.type").await, None);
    }

    async fn addresses_of_clients_are_not_preserved_for_tcp_targets_by_address() {
        let lab = lab(&[]).await;
        let wanted = lab.wanted_group("one", "TCP").replace("=instance", "=ip");
        let made = lab.ok("CreateTargetGroup", &wanted).await;
        let of = format!("TargetGroupArn={}", made.first("TargetGroupArn").unwrap());
        let seen = lab.attribute("DescribeTargetGroupAttributes", &of, "preserve_client_ip.enabled");
        assert_eq!(seen.await.as_deref(), Some("false"));
    }

    async fn a_change_of_attributes_answers_with_all_of_them_and_refuses_what_there_is_not() {
        let lab = lab(&[]).await;
        let arn = lab.group("one", "UDP").await;
        let set = |key: &str, value: &str| format!("TargetGroupArn={arn} Attributes.member.1.Key={key} Attributes.member.1.Value={value}");
        let modify = "ModifyTargetGroupAttributes";
        let said = lab.ok(modify, &set("proxy_protocol_v2.enabled", "true")).await;
        assert_eq!(said.all("Key").len(), 13, "{said:?}");
        let of = format!("TargetGroupArn={arn}");
        let seen = lab.attribute("DescribeTargetGroupAttributes", &of, "proxy_protocol_v2.enabled");
        assert_eq!(seen.await.as_deref(), Some("true"));
        for (key, value, code) in [
            ("slow_start.duration_seconds", "30", "InvalidConfigurationRequest"),
            ("nonsense", "1", "InvalidConfigurationRequest"),
            ("stickiness.type", "lb_cookie", "InvalidConfigurationRequest"),
            ("preserve_client_ip.enabled", "false", "InvalidConfigurationRequest"),
            ("deregistration_delay.timeout_seconds", "3601", "ValidationError"),
        ] {
            lab.refused(modify, &set(key, value), code).await;
        }
    }

    async fn the_matcher_of_an_http_check_can_be_changed_and_goes_with_the_protocol() {
        let lab = lab(&[]).await;
        let wanted = format!("{} HealthCheckProtocol=HTTP", lab.wanted_group("one", "TCP"));
        let made = lab.ok("CreateTargetGroup", &wanted).await;
        assert_eq!(made.first("HttpCode").as_deref(), Some("200-399"));
        assert_eq!(made.first("HealthCheckPath").as_deref(), Some("/"));
        assert_eq!(made.first("HealthCheckTimeoutSeconds").as_deref(), Some("6"));
        let of = format!("TargetGroupArn={}", made.first("TargetGroupArn").unwrap());
        lab.ok("ModifyTargetGroup", &format!("{of} Matcher.HttpCode=200")).await;
        let seen = lab.ok("DescribeTargetGroups", "").await;
        assert_eq!(seen.first("HttpCode").as_deref(), Some("200"));
        lab.ok("ModifyTargetGroup", &format!("{of} HealthCheckIntervalSeconds=20")).await;
        let seen = lab.ok("DescribeTargetGroups", "").await;
        assert_eq!(seen.first("HttpCode").as_deref(), Some("200"), "kept");
        lab.ok("ModifyTargetGroup", &format!("{of} HealthCheckProtocol=TCP")).await;
        let seen = lab.ok("DescribeTargetGroups", "").await;
        assert_eq!((seen.first("HttpCode"), seen.first("HealthCheckPath")), (None, None));
        lab.refused("ModifyTargetGroup", &format!("{of} Matcher.HttpCode=200"), "ValidationError").await;
    }

    async fn a_target_group_is_in_use_until_no_listener_forwards_to_it() {
        let lab = lab(&[]).await;
        let (balancer, one, two) = (lab.balancer("lb").await, lab.group("one", "TCP").await, lab.group("two", "TCP").await);
        let listener = lab.listener(&balancer, 80, &one).await;
        lab.refused("DeleteTargetGroup", &format!("TargetGroupArn={one}"), "ResourceInUse").await;
        let to_two = format!("ListenerArn={listener} {}", crate::lab::forward(&two));
        lab.ok("ModifyListener", &to_two).await;
        lab.ok("DeleteTargetGroup", &format!("TargetGroupArn={one}")).await;
        lab.ok("DeleteLoadBalancer", &format!("LoadBalancerArn={balancer}")).await;
        lab.ok("DeleteTargetGroup", &format!("TargetGroupArn={two}")).await;
    }

    async fn a_target_group_names_its_load_balancers_and_belongs_to_one() {
        let lab = lab(&[]).await;
        let (one, two, group) = (lab.balancer("one").await, lab.balancer("two").await, lab.group("g", "TCP").await);
        let listener = lab.listener(&one, 80, &group).await;
        lab.listener(&one, 81, &group).await;
        let named = |reply: moto::Reply| reply.body.matches("loadbalancer/net/one").count();
        assert_eq!(named(lab.ok("DescribeTargetGroups", "").await), 1);
        let elsewhere = format!("LoadBalancerArn={two} Protocol=TCP Port=80 {}", crate::lab::forward(&group));
        lab.refused("CreateListener", &elsewhere, "TargetGroupAssociationLimit").await;
        lab.ok("DeleteListener", &format!("ListenerArn={listener}")).await;
        assert_eq!(named(lab.ok("DescribeTargetGroups", "").await), 1, "port 81 still does");
    }

    async fn target_groups_come_in_pages() {
        let lab = lab(&[]).await;
        let mut made = Vec::new();
        for name in ["c", "a", "b"] {
            made.push(lab.group(name, "TCP").await);
        }
        let first = lab.ok("DescribeTargetGroups", "PageSize=2").await;
        let marker = first.first("NextMarker").unwrap();
        let next = lab.ok("DescribeTargetGroups", &format!("Marker={marker}")).await;
        let both = [first.all("TargetGroupArn"), next.all("TargetGroupArn")].concat();
        assert_eq!(both, made);
    }
}
