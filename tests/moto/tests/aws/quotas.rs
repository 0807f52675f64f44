use crate::lab::{forward, lab, target};
use crate::sentences;

sentences! {
    async fn a_region_has_50_network_load_balancers() {
        let lab = lab(&[]).await;
        for number in 0..50 {
            lab.balancer(&format!("lb-{number}")).await;
        }
        lab.refused("CreateLoadBalancer", &lab.wanted("more"), "TooManyLoadBalancers").await;
        lab.balancer("lb-0").await; // the same again is none more
    }

    async fn a_test_can_have_more_load_balancers_or_fewer() {
        let lab = lab(&[("LOAD_BALANCERS", "1"), ("TARGET_GROUPS", "1")]).await;
        lab.balancer("one").await;
        lab.refused("CreateLoadBalancer", &lab.wanted("two"), "TooManyLoadBalancers").await;
        lab.group("one", "TCP").await;
        lab.refused("CreateTargetGroup", &lab.wanted_group("two", "TCP"), "TooManyTargetGroups").await;
    }

    async fn a_load_balancer_has_50_listeners() {
        let lab = lab(&[]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        for port in 1..=50 {
            lab.listener(&balancer, port, &group).await;
        }
        let more = format!("LoadBalancerArn={balancer} Protocol=TCP Port=51 {}", forward(&group));
        lab.refused("CreateListener", &more, "TooManyListeners").await;
    }

    async fn a_target_counts_in_each_group_of_a_load_balancer_but_once_in_each() {
        let lab = lab(&[("TARGETS", "3")]).await;
        let (balancer, one, two) = (lab.balancer("lb").await, lab.group("one", "TCP").await, lab.group("two", "TCP").await);
        lab.listener(&balancer, 80, &one).await;
        lab.listener(&balancer, 81, &one).await;
        lab.listener(&balancer, 82, &two).await;
        for group in [&one, &two] {
            lab.register(group, lab.instance(0), 1).await;
        }
        lab.register(&one, lab.instance(1), 1).await;
        lab.register(&one, lab.instance(1), 1).await; // nothing new
        let fourth = target(&two, lab.instance(1), 1);
        lab.refused("RegisterTargets", &fourth, "TooManyTargets").await;
    }

    async fn a_group_with_too_many_targets_is_not_attached() {
        let lab = lab(&[("TARGETS", "1")]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        for number in [0, 1] {
            lab.register(&group, lab.instance(number), 1).await;
        }
        let wanted = format!("LoadBalancerArn={balancer} Protocol=TCP Port=80 {}", forward(&group));
        lab.refused("CreateListener", &wanted, "TooManyTargets").await;
        assert_eq!(lab.ok("DescribeListeners", &format!("LoadBalancerArn={balancer}")).await.all("ListenerArn").len(), 0);
    }

    async fn cross_zone_lowers_the_limit_and_is_refused_above_it() {
        let lab = lab(&[("TARGETS", "3"), ("TARGETS_CROSS_ZONE", "1")]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        lab.listener(&balancer, 80, &group).await;
        lab.register(&group, lab.instance(0), 1).await;
        let set = |value| format!("LoadBalancerArn={balancer} Attributes.member.1.Key=load_balancing.cross_zone.enabled Attributes.member.1.Value={value}");
        let modify = "ModifyLoadBalancerAttributes";
        lab.ok(modify, &set("true")).await;
        let second = target(&group, lab.instance(1), 1);
        lab.refused("RegisterTargets", &second, "TooManyTargets").await;
        lab.ok(modify, &set("false")).await;
        lab.ok("RegisterTargets", &second).await;
        lab.refused(modify, &set("true"), "TooManyTargets").await;
    }

    async fn a_zone_has_its_own_limit_while_cross_zone_is_off() {
        let lab = lab(&[("TARGETS_PER_ZONE", "1")]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        lab.listener(&balancer, 80, &group).await;
        for number in 0..3 {
            lab.register(&group, lab.instance(number), 1).await;
        }
        let again = target(&group, lab.instance(0), 2);
        lab.refused("RegisterTargets", &again, "TooManyTargets").await;
    }

    async fn a_target_group_has_1000_targets() {
        let lab = lab(&[]).await;
        let group = lab.group("g", "TCP").await;
        let batch = |first: u32, count: u32| {
            let mut text = format!("TargetGroupArn={group}");
            for port in first..first + count {
                text += &format!(" Targets.member.{0}.Id={1} Targets.member.{0}.Port={2}", port - first + 1, lab.instance(0), port);
            }
            text
        };
        lab.ok("RegisterTargets", &batch(1, 1000)).await;
        lab.refused("RegisterTargets", &batch(1001, 1), "TooManyTargets").await;
    }
}
