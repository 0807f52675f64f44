use crate::lab::lab;
use crate::sentences;

sentences! {
    async fn a_network_load_balancer_has_net_in_its_arn_and_elb_before_the_region_in_its_name() {
        let lab = lab(&[]).await;
        let made = lab.ok("CreateLoadBalancer", &lab.wanted("one")).await;
        let arn = made.first("LoadBalancerArn").unwrap();
        let (_, id) = arn.split_once(":loadbalancer/net/one/").unwrap();
        let name = format!("one-{id}.elb.eu-central-1.amazonaws.com");
        assert_eq!(made.first("DNSName"), Some(name));
        assert_eq!(made.first("Type").as_deref(), Some("network"));
    }

    async fn to_create_a_load_balancer_again_succeeds_and_changes_nothing() {
        let lab = lab(&[]).await;
        let tagged = |value| format!("{} Tags.member.1.Key=a Tags.member.1.Value={value}", lab.wanted("one"));
        let first = lab.ok("CreateLoadBalancer", &tagged("1")).await;
        let again = lab.ok("CreateLoadBalancer", &tagged("2")).await;
        let arn = first.first("LoadBalancerArn").unwrap();
        assert_eq!(again.first("LoadBalancerArn"), Some(arn.clone()));
        let tags = lab.ok("DescribeTags", &format!("ResourceArns.member.1={arn}")).await;
        assert_eq!(tags.all("Value"), ["1"]);
        assert_eq!(lab.ok("DescribeLoadBalancers", "").await.all("LoadBalancerArn").len(), 1);
    }

    async fn a_load_balancer_name_with_other_settings_is_refused() {
        let lab = lab(&[]).await;
        lab.balancer("one").await;
        let other = format!("{} Scheme=internal", lab.wanted("one"));
        lab.refused("CreateLoadBalancer", &other, "DuplicateLoadBalancerName").await;
    }

    async fn a_load_balancer_is_provisioning_until_its_time_and_then_active() {
        let slow = lab(&[("PROVISION_SECONDS", "3600")]).await;
        slow.balancer("one").await;
        let seen = slow.ok("DescribeLoadBalancers", "").await;
        assert!(seen.body.contains("<Code>provisioning</Code>"), "{seen:?}");
        let quick = lab(&[]).await;
        quick.balancer("one").await;
        let seen = quick.ok("DescribeLoadBalancers", "").await;
        assert!(seen.body.contains("<Code>active</Code>"), "{seen:?}");
    }

    async fn the_addresses_of_a_subnet_mapping_are_kept_and_shown() {
        let lab = lab(&[]).await;
        let address = lab.ec2("AllocateAddress", "Domain=vpc").await;
        let id = address.first("allocationId").unwrap();
        let mapping = "SubnetMappings.member.1";
        let wanted = |name: &str, more: &str| format!("Name={name} Type=network {mapping}.SubnetId={} {mapping}.{more}", lab.subnet(0));
        lab.ok("CreateLoadBalancer", &wanted("public", &format!("AllocationId={id}"))).await;
        let seen = lab.ok("DescribeLoadBalancers", "Names.member.1=public").await;
        assert_eq!(seen.first("AllocationId"), Some(id));
        assert_eq!(seen.first("IpAddress"), address.first("publicIp"));

        lab.ok("CreateLoadBalancer", &wanted("private", "PrivateIPv4Address=10.0.0.9 Scheme=internal")).await;
        let seen = lab.ok("DescribeLoadBalancers", "Names.member.1=private").await;
        assert_eq!(seen.first("PrivateIPv4Address").as_deref(), Some("10.0.0.9"));
        lab.ok("CreateLoadBalancer", &wanted("six", "IPv6Address=2001:db8::9 IpAddressType=dualstack")).await;
        let seen = lab.ok("DescribeLoadBalancers", "Names.member.1=six").await;
        assert_eq!(seen.first("IPv6Address").as_deref(), Some("2001:db8::9"));

        let unknown = wanted("unknown", "AllocationId=eipalloc-1");
        lab.refused("CreateLoadBalancer", &unknown, "AllocationIdNotFound").await;
        let wrong = wanted("wrong", "PrivateIPv4Address=10.0.0.9");
        lab.refused("CreateLoadBalancer", &wrong, "InvalidConfigurationRequest").await;
    }

    async fn set_subnets_replaces_all_subnets_also_by_a_single_one() {
        let lab = lab(&[]).await;
        let arn = lab.balancer("one").await;
        let set = format!("LoadBalancerArn={arn} Subnets.member.1={}", lab.subnet(1));
        assert_eq!(lab.ok("SetSubnets", &set).await.all("SubnetId"), [lab.subnet(1)]);
        let seen = lab.ok("DescribeLoadBalancers", "").await;
        assert_eq!(seen.all("SubnetId"), [lab.subnet(1)]);
        let unknown = format!("LoadBalancerArn={arn} Subnets.member.1=subnet-1");
        lab.refused("SetSubnets", &unknown, "SubnetNotFound").await;
    }

    async fn a_load_balancer_has_the_attributes_of_its_type_and_no_others() {
        let lab = lab(&[]).await;
        let of = format!("LoadBalancerArn={}", lab.balancer("one").await);
        let read = "DescribeLoadBalancerAttributes";
        let policy = "dns_record.client_routing_policy";
        assert_eq!(lab.attribute(read, &of, policy).await.as_deref(), Some("any_availability_zone"));
        let set = |key: &str, value: &str| format!("{of} Attributes.member.1.Key={key} Attributes.member.1.Value={value}");
        let zonal = "availability_zone_affinity";
        lab.ok("ModifyLoadBalancerAttributes", &set(policy, zonal)).await;
        assert_eq!(lab.attribute(read, &of, policy).await.as_deref(), Some(zonal));
        let application = set("idle_timeout.timeout_seconds", "9");
        lab.refused("ModifyLoadBalancerAttributes", &application, "InvalidConfigurationRequest").await;
    }

    async fn a_protected_load_balancer_is_not_deleted_and_an_absent_one_is_no_error() {
        let lab = lab(&[]).await;
        let of = format!("LoadBalancerArn={}", lab.balancer("one").await);
        let set = |value| format!("{of} Attributes.member.1.Key=deletion_protection.enabled Attributes.member.1.Value={value}");
        lab.ok("ModifyLoadBalancerAttributes", &set("true")).await;
        lab.refused("DeleteLoadBalancer", &of, "OperationNotPermitted").await;
        lab.ok("ModifyLoadBalancerAttributes", &set("false")).await;
        lab.ok("DeleteLoadBalancer", &of).await;
        lab.ok("DeleteLoadBalancer", &of).await;
        lab.refused("DescribeLoadBalancers", "Names.member.1=one", "LoadBalancerNotFound").await;
    }

    async fn one_missing_name_fails_the_whole_description() {
        let lab = lab(&[]).await;
        lab.balancer("one").await;
        let both = "Names.member.1=one Names.member.2=two";
        lab.refused("DescribeLoadBalancers", both, "LoadBalancerNotFound").await;
    }

    async fn a_page_ends_with_a_marker_that_leads_on_even_when_what_it_ended_with_is_deleted() {
        let lab = lab(&[]).await;
        let mut made = Vec::new();
        for name in ["c", "a", "b"] {
            made.push(lab.balancer(name).await);
        }
        let first = lab.ok("DescribeLoadBalancers", "PageSize=2").await;
        assert_eq!(first.all("LoadBalancerArn"), made[..2]);
        lab.ok("DeleteLoadBalancer", &format!("LoadBalancerArn={}", made[1])).await;
        let marker = first.first("NextMarker").unwrap();
        let next = lab.ok("DescribeLoadBalancers", &format!("PageSize=2 Marker={marker}")).await;
        assert_eq!(next.all("LoadBalancerArn"), made[2..]);
        assert_eq!(next.first("NextMarker"), None);
        for wrong in ["PageSize=401", "PageSize=0", "Marker=?"] {
            lab.refused("DescribeLoadBalancers", wrong, "ValidationError").await;
        }
    }
}
