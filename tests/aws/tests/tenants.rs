//! Services that share a load balancer, adopt one, or would like somebody else's; and the load balancers
//! that AWS Load Balancer Controller (LBC) has left.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use aws_tests::{Play, annotated, class, full, hostname, service, tcp};
use serde_json::{Value, json};

const GROUP: &str = "portolan.dev/load-balancer-group";

fn in_group(name: &str, ports: Value) -> Value {
    annotated(service(name, ports), &[(GROUP, "edge")])
}

async fn ports(play: &Play) -> Vec<String> {
    let mut all = vec![];
    for arn in play.load_balancers().await {
        let of = [("LoadBalancerArn", arn.as_str())];
        let listeners = play.elb("DescribeListeners", &of).await;
        // Each has its port first, then those of its actions have none.
        all.extend(listeners.all("Port"));
    }
    all.sort();
    all
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn of_two_that_want_one_port_the_older_has_it_until_it_goes() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    play.cluster().create(in_group("older", tcp(80))).await;
    let name = play.ready("older").await;
    // Ages are told in seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    play.cluster().create(in_group("younger", tcp(80))).await;
    let message = play.says("younger", "ConflictingRequest").await;
    assert!(
        message.contains("older") && message.contains("80"),
        "{message}"
    );
    assert_eq!(play.ready("older").await, name);

    play.cluster().delete("Service", "default/older").await;
    play.gone("older").await;
    assert_eq!(
        play.ready("younger").await,
        name,
        "one load balancer, as long as one wants it"
    );
    assert_eq!(play.load_balancers().await.len(), 1);
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn who_leaves_a_group_takes_only_his_ports() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    play.cluster().create(in_group("web", tcp(80))).await;
    play.cluster().create(in_group("mail", tcp(25))).await;
    let name = play.ready("web").await;
    assert_eq!(play.ready("mail").await, name);
    assert_eq!(ports(&play).await, ["25", "80"]);
    play.cluster()
        .edit("Service", "default/mail", |o| {
            o["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove(GROUP);
        })
        .await;
    let other = |o: &Value| hostname(o).is_some_and(|shown| shown != name);
    play.cluster()
        .until_service("mail", "has its own", other)
        .await;
    play.ready("mail").await;
    assert_eq!(play.ready("web").await, name);
    assert_eq!(play.load_balancers().await.len(), 2);
    assert_eq!(ports(&play).await, ["25", "80"]);
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn a_mistake_in_one_stops_none_of_the_others() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    play.cluster().create(in_group("web", tcp(80))).await;
    play.ready("web").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let wrong = annotated(
        in_group("wrong", tcp(25)),
        &[("healthcheck-interval", "often")],
    );
    play.cluster().create(wrong).await;
    let message = play.says("wrong", "ConflictingRequest").await;
    assert!(message.contains("healthcheck-interval"), "{message}");
    play.ready("web").await;
    running.stop().await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn nobody_gets_a_load_balancer_without_consent() {
    let play = Play::new(&[]).await;
    let running = play.controller("one");
    play.cluster().create(service("victim", tcp(443))).await;
    let name = play.ready("victim").await;
    let victims = play.load_balancers().await.remove(0);
    let strangers = play
        .elb(
            "CreateLoadBalancer",
            &[
                ("Name", "edge"),
                ("Type", "network"),
                ("Scheme", "internal"),
                ("Subnets.member.1", &play.network.subnets[0].id),
            ],
        )
        .await;
    let strangers = strangers.first("LoadBalancerArn").unwrap();
    for (attacker, arn) in [("one", &victims), ("two", &strangers)] {
        let adopting = annotated(service(attacker, tcp(80)), &[("portolan.dev/adopt", arn)]);
        play.cluster().create(adopting).await;
        let message = play.says(attacker, "ConflictingRequest").await;
        assert!(message.contains("portolan.dev/adopt"), "{message}");
    }
    // Nor by tags that say whose it is.
    let tags = "portolan.dev/stack=default/victim";
    let seizing = annotated(
        service("three", tcp(80)),
        &[("additional-resource-tags", tags)],
    );
    play.cluster().create(seizing).await;
    play.says("three", "InvalidRequest").await;
    for attacker in ["one", "two", "three"] {
        let key = format!("default/{attacker}");
        play.cluster().delete("Service", &key).await;
        play.gone(attacker).await;
    }
    let mut left = play.load_balancers().await;
    left.sort();
    let mut both = vec![victims, strangers];
    both.sort();
    assert_eq!(left, both);
    assert_eq!(play.ready("victim").await, name);
    assert_eq!(ports(&play).await, ["443"]);
    play.fixed_point(running).await;
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn an_adopted_load_balancer_stays_with_what_was_there() {
    let play = Play::new(&[]).await;
    let made = play
        .elb(
            "CreateLoadBalancer",
            &[
                ("Name", "edge"),
                ("Type", "network"),
                ("Scheme", "internal"),
                ("Subnets.member.1", &play.network.subnets[0].id),
            ],
        )
        .await;
    let arn = made.first("LoadBalancerArn").unwrap();
    let group = play
        .elb(
            "CreateTargetGroup",
            &[
                ("Name", "theirs"),
                ("Protocol", "TCP"),
                ("Port", "25"),
                ("VpcId", &play.network.vpc),
            ],
        )
        .await;
    let group = group.first("TargetGroupArn").unwrap();
    play.elb(
        "CreateListener",
        &[
            ("LoadBalancerArn", &arn),
            ("Protocol", "TCP"),
            ("Port", "25"),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", &group),
        ],
    )
    .await;
    play.cluster()
        .edit("LoadBalancerClass", "nlb", |o| {
            o["spec"] = class(json!({"adoptable": [arn]}))["spec"].clone();
        })
        .await;
    let running = play.controller("one");
    let two = json!([
        {"name": "web", "port": 80, "protocol": "TCP"},
        {"name": "mail", "port": 25, "protocol": "TCP"},
    ]);
    let adopting = annotated(service("web", two), &[("portolan.dev/adopt", &arn)]);
    play.cluster().create(adopting).await;
    let message = play.says("web", "Ready").await;
    assert!(
        message.contains("25") && message.contains("edge"),
        "{message}"
    );
    assert_eq!(ports(&play).await, ["25", "80"]);
    play.fixed_point(running).await;

    let running = play.controller("two");
    play.cluster().delete("Service", "default/web").await;
    play.gone("web").await;
    assert_eq!(play.load_balancers().await, [arn]);
    assert_eq!(play.target_groups().await, [group]);
    assert_eq!(ports(&play).await, ["25"]);
    running.stop().await;
}

/// What LBC's backend security group and a load balancer of LBC's for `default/web` look like.
async fn left_by_lbc(play: &Play) -> (String, String, String) {
    let backend = play
        .ec2(
            "CreateSecurityGroup",
            &[
                ("GroupName", "k8s-traffic-test-1234567890"),
                (
                    "GroupDescription",
                    "[k8s] Shared Backend SecurityGroup for LoadBalancer",
                ),
                ("VpcId", &play.network.vpc),
                ("TagSpecification.1.ResourceType", "security-group"),
                ("TagSpecification.1.Tag.1.Key", "elbv2.k8s.aws/cluster"),
                ("TagSpecification.1.Tag.1.Value", "test"),
                ("TagSpecification.1.Tag.2.Key", "elbv2.k8s.aws/resource"),
                ("TagSpecification.1.Tag.2.Value", "backend-sg"),
            ],
        )
        .await;
    let backend = backend.first("groupId").unwrap();
    let managed = play
        .ec2(
            "CreateSecurityGroup",
            &[
                ("GroupName", "k8s-default-web-0123456789"),
                (
                    "GroupDescription",
                    "[k8s] Managed SecurityGroup for LoadBalancer",
                ),
                ("VpcId", &play.network.vpc),
                ("TagSpecification.1.ResourceType", "security-group"),
                ("TagSpecification.1.Tag.1.Key", "elbv2.k8s.aws/cluster"),
                ("TagSpecification.1.Tag.1.Value", "test"),
                ("TagSpecification.1.Tag.2.Key", "service.k8s.aws/stack"),
                ("TagSpecification.1.Tag.2.Value", "default/web"),
                ("TagSpecification.1.Tag.3.Key", "service.k8s.aws/resource"),
                ("TagSpecification.1.Tag.3.Value", "ManagedLBSecurityGroup"),
            ],
        )
        .await;
    let managed = managed.first("groupId").unwrap();
    let tags = |resource: &'static str| {
        [
            ("Tags.member.1.Key", "elbv2.k8s.aws/cluster"),
            ("Tags.member.1.Value", "test"),
            ("Tags.member.2.Key", "service.k8s.aws/stack"),
            ("Tags.member.2.Value", "default/web"),
            ("Tags.member.3.Key", "service.k8s.aws/resource"),
            ("Tags.member.3.Value", resource),
        ]
    };
    let mut balancer = vec![
        ("Name", "k8s-default-web-abcdef0123"),
        ("Type", "network"),
        ("Scheme", "internal"),
        ("SecurityGroups.member.1", &*backend),
        ("SecurityGroups.member.2", &managed),
    ];
    let subnets = ["Subnets.member.1", "Subnets.member.2", "Subnets.member.3"];
    let ids = play.network.subnets.iter().map(|subnet| &*subnet.id);
    balancer.extend(subnets.into_iter().zip(ids));
    balancer.extend(tags("LoadBalancer"));
    let balancer = play.elb("CreateLoadBalancer", &balancer).await;
    let balancer = balancer.first("LoadBalancerArn").unwrap();
    let mut group = vec![
        ("Name", "k8s-default-web-fedcba9876"),
        ("Protocol", "TCP"),
        ("Port", "30080"),
        ("VpcId", &*play.network.vpc),
        ("TargetType", "instance"),
    ];
    group.extend(tags("default/web:80"));
    let group = play.elb("CreateTargetGroup", &group).await;
    let group = group.first("TargetGroupArn").unwrap();
    let mut listener = vec![
        ("LoadBalancerArn", &*balancer),
        ("Protocol", "TCP"),
        ("Port", "80"),
        ("DefaultActions.member.1.Type", "forward"),
        ("DefaultActions.member.1.TargetGroupArn", &group),
    ];
    listener.extend(tags("80"));
    play.elb("CreateListener", &listener).await;
    for instance in play.network.instances.iter().take(3) {
        let targets = [
            ("TargetGroupArn", &*group),
            ("Targets.member.1.Id", &instance.id),
            ("Targets.member.1.Port", "30080"),
        ];
        play.elb("RegisterTargets", &targets).await;
    }
    (balancer, group, backend)
}

#[tokio::test]
#[ignore = "moto: needs Python and PyPI"]
async fn what_lbc_made_is_taken_over_as_it_is() {
    let play = Play::new(&[]).await;
    let (balancer, group, backend) = left_by_lbc(&play).await;
    let mut web = service("web", tcp(80));
    web["spec"]["ports"][0]["nodePort"] = json!(30080);
    web["metadata"]["annotations"][full("nlb-target-type")] = json!("instance");
    play.cluster().create(web).await;
    let running = play.controller("one");
    play.ready("web").await;
    assert_eq!(play.load_balancers().await, [balancer]);
    assert_eq!(
        play.target_groups().await.as_slice(),
        std::slice::from_ref(&group)
    );
    let targets = play.targets(&group).await;
    assert!(
        targets.values().all(|state| state != "draining"),
        "{targets:?}"
    );
    assert_eq!(targets.len(), 3);
    for made in [
        "CreateLoadBalancer",
        "CreateTargetGroup",
        "CreateListener",
        "DeregisterTargets",
    ] {
        assert!(
            !play.writes().contains(&made.to_owned()),
            "{:?}",
            play.writes()
        );
    }
    play.fixed_point(running).await;

    let running = play.controller("two");
    play.cluster().delete("Service", "default/web").await;
    play.gone("web").await;
    play.nothing_left().await;
    // LBC may go on serving Ingresses with it.
    play.ec2("DescribeSecurityGroups", &[("GroupId.1", &backend)])
        .await;
    running.stop().await;
}
