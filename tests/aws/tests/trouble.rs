//! When AWS refuses: the Service says why in words that help, nothing else stops, and once the reason
//! is gone the work is finished.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use aws_tests::{Play, annotated, service, tcp};
use moto::{EVERY, Fault, What};

const WEB: &str = "default/web";

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_missing_right_is_named_and_comes_later() {
    let play = Play::new(&[]).await;
    play.aws.fault(Fault {
        action: "CreateLoadBalancer",
        nth: EVERY,
        what: What::Deny,
    });
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    let message = play.says("web", "AccessDenied").await;
    assert!(
        message.contains("elasticloadbalancing:CreateLoadBalancer"),
        "{message}"
    );
    play.aws.resume();
    play.ready("web").await;
    assert_eq!(play.target_groups().await.len(), 1);
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn who_may_not_even_look_is_told_so() {
    let play = Play::new(&[]).await;
    play.aws.fault(Fault {
        action: "DescribeLoadBalancers",
        nth: EVERY,
        what: What::Deny,
    });
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    let message = play.says("web", "AccessDenied").await;
    assert!(
        message.contains("elasticloadbalancing:DescribeLoadBalancers"),
        "{message}"
    );
    play.aws.resume();
    play.ready("web").await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn nodes_rules_that_may_not_be_written_stop_nobody() {
    let play = Play::new(&[]).await;
    play.aws.fault(Fault {
        action: "AuthorizeSecurityGroupIngress",
        nth: 1,
        what: What::Deny,
    });
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    let message = play.says("web", "Ready").await;
    assert!(
        message.contains("nodes") && message.contains("ec2:AuthorizeSecurityGroupIngress"),
        "{message}"
    );
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_used_up_quota_stops_only_those_that_need_it() {
    let play = Play::new(&[("LOAD_BALANCERS", "1")]).await;
    let running = play.controller("one");
    play.cluster().create(service("first", tcp(80))).await;
    play.ready("first").await;
    play.cluster().create(service("web", tcp(80))).await;
    let message = play.says("web", "QuotaExceeded").await;
    assert!(message.contains("TooManyLoadBalancers"), "{message}");
    play.cluster().delete("Service", "default/first").await;
    play.gone("first").await;
    play.ready("web").await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn throttling_and_lost_replies_delay_and_lose_nothing() {
    let play = Play::new(&[]).await;
    for (action, nth, what) in [
        ("DescribeTargetGroups", 1, What::Throttle),
        ("CreateTargetGroup", 2, What::Throttle),
        ("CreateLoadBalancer", 1, What::LoseReply),
        ("CreateListener", 1, What::LoseReply),
        ("CreateSecurityGroup", 2, What::LoseReply),
        ("RegisterTargets", 1, What::Fail(500)),
        ("AddTags", 1, What::LoseReply),
    ] {
        play.aws.fault(Fault { action, nth, what });
    }
    let running = play.controller("one");
    for name in ["a", "b", "c"] {
        play.cluster().create(service(name, tcp(80))).await;
    }
    for name in ["a", "b", "c"] {
        play.ready(name).await;
    }
    assert_eq!(play.load_balancers().await.len(), 3);
    assert_eq!(play.target_groups().await.len(), 3);
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn deletion_ends_when_parts_are_gone_already() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    play.ready("web").await;
    for arn in play.load_balancers().await {
        play.elb("DeleteLoadBalancer", &[("LoadBalancerArn", &arn)])
            .await;
    }
    for arn in play.target_groups().await {
        play.elb("DeleteTargetGroup", &[("TargetGroupArn", &arn)])
            .await;
    }
    play.cluster().delete("Service", WEB).await;
    play.gone("web").await;
    play.nothing_left().await;
    running.stop().await;
}

/// The id of the security group that was made for the Service.
async fn own_group(play: &Play) -> String {
    let of = [
        ("Filter.1.Name", "tag:portolan.dev/stack"),
        ("Filter.1.Value.1", WEB),
    ];
    let found = play.ec2("DescribeSecurityGroups", &of).await;
    found.first("groupId").unwrap()
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn what_something_else_depends_on_blocks_the_deletion_until_it_does_not() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    play.cluster().create(service("web", tcp(80))).await;
    play.ready("web").await;
    let group = own_group(&play).await;
    let rule = [
        ("GroupId", play.network.security_group.as_str()),
        ("IpPermissions.1.IpProtocol", "tcp"),
        ("IpPermissions.1.FromPort", "5432"),
        ("IpPermissions.1.ToPort", "5432"),
        ("IpPermissions.1.Groups.1.GroupId", &group),
    ];
    play.ec2("AuthorizeSecurityGroupIngress", &rule).await;
    play.cluster().delete("Service", WEB).await;
    let message = play.says("web", "DeletionBlocked").await;
    assert!(message.contains("DependencyViolation"), "{message}");
    assert!(message.contains(&group), "{message}");
    // The load balancer itself costs money and is gone all the same.
    assert_eq!(play.load_balancers().await, [""; 0]);
    play.ec2("RevokeSecurityGroupIngress", &rule).await;
    play.gone("web").await;
    play.nothing_left().await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_chosen_name_that_a_stranger_has_is_said_and_the_stranger_left_alone() {
    let play = Play::new(&[]).await;
    let strangers = play
        .elb(
            "CreateLoadBalancer",
            &[
                ("Name", "shop"),
                ("Type", "network"),
                ("Scheme", "internal"),
                ("Subnets.member.1", &play.network.subnets[0].id),
            ],
        )
        .await;
    let strangers = strangers.first("LoadBalancerArn").unwrap();
    let running = play.controller("one");
    let web = annotated(service("web", tcp(80)), &[("name", "shop")]);
    play.cluster().create(web).await;
    let message = play.says("web", "ProviderError").await;
    assert!(message.contains("shop"), "{message}");
    assert_eq!(
        play.load_balancers().await.as_slice(),
        std::slice::from_ref(&strangers)
    );
    play.cluster().delete("Service", WEB).await;
    play.gone("web").await;
    assert_eq!(play.load_balancers().await, [strangers]);
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn what_was_made_without_an_answer_goes_with_its_service() {
    let play = Play::new(&[]).await;
    for action in [
        "CreateTargetGroup",
        "CreateLoadBalancer",
        "CreateSecurityGroup",
    ] {
        play.aws.fault(Fault {
            action,
            nth: EVERY,
            what: What::LoseReply,
        });
        let name = action.to_lowercase();
        let running = play.controller("one");
        play.cluster().create(service(&name, tcp(80))).await;
        play.says(&name, "ProviderError").await;
        // Before the provider looks again by itself.
        play.cluster()
            .delete("Service", &format!("default/{name}"))
            .await;
        play.gone(&name).await;
        play.nothing_left().await;
        play.aws.resume();
        running.stop().await;
    }
}
