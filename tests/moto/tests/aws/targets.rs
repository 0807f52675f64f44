use moto::Health;

use crate::lab::{lab, states, target, weighted};
use crate::sentences;

const AT_ONCE: (&str, &str) = ("HEALTH_SECONDS", "0");
const NEVER_GONE: (&str, &str) = ("DRAIN_SCALE", "1");

sentences! {
    async fn a_target_is_shown_with_the_zone_that_it_was_registered_for() {
        let lab = lab(&[]).await;
        let wanted = lab.wanted_group("g", "TCP").replace("TargetType=instance", "TargetType=ip");
        let group = lab.ok("CreateTargetGroup", &wanted).await.first("TargetGroupArn").unwrap();
        let outside = format!("{} Targets.member.1.AvailabilityZone=all", target(&group, "100.64.0.1", 1));
        lab.ok("RegisterTargets", &outside).await;
        lab.register(&group, "10.0.0.9", 2).await;
        let health = lab.ok("DescribeTargetHealth", &format!("TargetGroupArn={group}")).await;
        assert_eq!(health.all("Id"), ["100.64.0.1", "10.0.0.9"]);
        assert_eq!(health.all("AvailabilityZone"), ["all"]);
    }

    async fn one_instance_on_two_ports_is_two_targets() {
        let lab = lab(&[]).await;
        let group = lab.group("g", "TCP").await;
        for port in [1, 2] {
            lab.register(&group, lab.instance(0), port).await;
        }
        assert_eq!(lab.health(&group).await, states(&[("1", "unused"), ("2", "unused")]));
        lab.deregister(&group, lab.instance(0), 1).await;
        assert_eq!(lab.health(&group).await, states(&[("2", "unused")]));
    }

    async fn a_target_without_a_port_has_that_of_its_group() {
        let lab = lab(&[]).await;
        let group = lab.group("g", "TCP").await;
        let bare = format!("TargetGroupArn={group} Targets.member.1.Id={}", lab.instance(0));
        lab.ok("RegisterTargets", &bare).await;
        assert_eq!(lab.health(&group).await, states(&[("30000", "unused")]));
    }

    async fn a_target_is_unused_until_a_listener_forwards_to_its_group_then_initial_then_healthy() {
        let lab = lab(&[AT_ONCE, ("HEALTH_CALLS", "2")]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        lab.register(&group, lab.instance(0), 1).await;
        for _ in 0..3 {
            assert_eq!(lab.health(&group).await, states(&[("1", "unused")]));
        }
        let listener = lab.listener(&balancer, 80, &group).await;
        for expected in ["initial", "initial", "healthy"] {
            assert_eq!(lab.health(&group).await, states(&[("1", expected)]));
        }
        lab.ok("DeleteListener", &format!("ListenerArn={listener}")).await;
        assert_eq!(lab.health(&group).await, states(&[("1", "unused")]));
        lab.listener(&balancer, 80, &group).await;
        assert_eq!(lab.health(&group).await, states(&[("1", "initial")]), "anew");
    }

    async fn a_target_stays_initial_for_the_seconds_of_its_health_checks() {
        let slow = lab(&[("HEALTH_SECONDS", "3600")]).await;
        let (balancer, group) = (slow.balancer("lb").await, slow.group("g", "TCP").await);
        slow.listener(&balancer, 80, &group).await;
        slow.register(&group, slow.instance(0), 1).await;
        assert_eq!(slow.health(&group).await, states(&[("1", "initial")]));
        let usual = lab(&[]).await;
        let (balancer, group) = (usual.balancer("lb").await, usual.group("g", "TCP").await);
        usual.listener(&balancer, 80, &group).await;
        usual.register(&group, usual.instance(0), 1).await;
        let healthy = async {
            while usual.health(&group).await != states(&[("1", "healthy")]) {}
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), healthy).await.unwrap();
    }

    async fn a_group_with_weight_0_is_attached() {
        let lab = lab(&[AT_ONCE]).await;
        let (balancer, one, two) = (lab.balancer("lb").await, lab.group("one", "TCP").await, lab.group("two", "TCP").await);
        lab.register(&two, lab.instance(0), 1).await;
        let forward = weighted(&[(&one, 1), (&two, 0)]);
        lab.ok("CreateListener", &format!("LoadBalancerArn={balancer} Protocol=TCP Port=80 {forward}")).await;
        assert_eq!(lab.health(&two).await, states(&[("1", "healthy")]));
    }

    async fn a_test_can_make_a_target_or_a_whole_group_unhealthy() {
        let lab = lab(&[AT_ONCE]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        lab.listener(&balancer, 80, &group).await;
        for port in [1, 2] {
            lab.register(&group, lab.instance(0), port).await;
        }
        let one = Some((lab.instance(0), 1));
        lab.aws.set_health(&group, one, Health::Unhealthy).await.unwrap();
        assert_eq!(lab.health(&group).await, states(&[("1", "unhealthy"), ("2", "healthy")]));
        lab.aws.set_health(&group, one, Health::Automatic).await.unwrap();
        lab.aws.set_health(&group, None, Health::Unhealthy).await.unwrap();
        assert_eq!(lab.health(&group).await, states(&[("1", "unhealthy"), ("2", "unhealthy")]));
        lab.aws.set_health(&group, one, Health::Healthy).await.unwrap();
        assert_eq!(lab.health(&group).await, states(&[("1", "healthy"), ("2", "unhealthy")]));
        lab.aws.set_health("a:b:c:d:e", None, Health::Healthy).await.unwrap_err();
    }

    async fn a_deregistered_target_drains_for_the_deregistration_delay_and_is_gone() {
        let lab = lab(&[AT_ONCE, NEVER_GONE]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        lab.listener(&balancer, 80, &group).await;
        lab.register(&group, lab.instance(0), 1).await;
        lab.register(&group, lab.instance(0), 2).await;
        lab.deregister(&group, lab.instance(0), 1).await;
        assert_eq!(lab.health(&group).await, states(&[("1", "draining"), ("2", "healthy")]));
        let delay = "Attributes.member.1.Key=deregistration_delay.timeout_seconds Attributes.member.1.Value=0";
        lab.ok("ModifyTargetGroupAttributes", &format!("TargetGroupArn={group} {delay}")).await;
        lab.deregister(&group, lab.instance(0), 2).await;
        assert_eq!(lab.health(&group).await, states(&[("1", "draining")]));
        let asked = lab.ok("DescribeTargetHealth", &target(&group, lab.instance(0), 2)).await;
        assert_eq!(asked.first("Reason").as_deref(), Some("Target.NotRegistered"));
    }

    async fn a_draining_target_that_is_registered_again_starts_as_initial() {
        let lab = lab(&[AT_ONCE, NEVER_GONE, ("HEALTH_CALLS", "1")]).await;
        let (balancer, group) = (lab.balancer("lb").await, lab.group("g", "TCP").await);
        lab.listener(&balancer, 80, &group).await;
        lab.register(&group, lab.instance(0), 1).await;
        for expected in ["initial", "healthy"] {
            assert_eq!(lab.health(&group).await, states(&[("1", expected)]));
        }
        lab.register(&group, lab.instance(0), 1).await;
        assert_eq!(lab.health(&group).await, states(&[("1", "healthy")]), "again is nothing new");
        lab.deregister(&group, lab.instance(0), 1).await;
        lab.register(&group, lab.instance(0), 1).await;
        assert_eq!(lab.health(&group).await, states(&[("1", "initial")]));
    }

    async fn to_deregister_an_unknown_target_succeeds() {
        let lab = lab(&[]).await;
        let group = lab.group("g", "TCP").await;
        lab.deregister(&group, "i-12345678", 1).await;
    }

    async fn an_unknown_instance_is_refused_with_all_that_came_with_it() {
        let lab = lab(&[]).await;
        let group = lab.group("g", "TCP").await;
        let two = format!("{} Targets.member.2.Id=i-12345678", target(&group, lab.instance(0), 1));
        lab.refused("RegisterTargets", &two, "InvalidTarget").await;
        assert_eq!(lab.health(&group).await, []);
    }

    async fn a_terminated_instance_leaves_its_groups() {
        let lab = lab(&[]).await;
        let group = lab.group("g", "TCP").await;
        lab.register(&group, lab.instance(0), 1).await;
        lab.ec2("TerminateInstances", &format!("InstanceId.1={}", lab.instance(0))).await;
        assert_eq!(lab.health(&group).await, []);
    }
}
