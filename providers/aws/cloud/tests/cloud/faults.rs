//! What goes wrong on the way: replies that are lost, throttling, missing rights.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use aws::{
    diff::{OnDelete, teardown},
    plan::{Action, Plan, Ref},
    seen::Seen,
    wanted::{IpAddressType, Protocol, Rule, Source, TargetType, Wanted},
};
use aws_cloud::{Cloud, Error, Made, Operation, throttle::Service};
use moto::{EVERY, Fault, What};

use crate::lab::{Lab, one, plan, run, seen};

/// Every write that a plan can have.
const WRITES: [&str; 25] = [
    "AddListenerCertificates",
    "AddTags",
    "AuthorizeSecurityGroupIngress",
    "CreateListener",
    "CreateLoadBalancer",
    "CreateSecurityGroup",
    "CreateTargetGroup",
    "DeleteListener",
    "DeleteLoadBalancer",
    "DeleteSecurityGroup",
    "DeleteTargetGroup",
    "DeregisterTargets",
    "ModifyListener",
    "ModifyListenerAttributes",
    "ModifyLoadBalancerAttributes",
    "ModifyTargetGroup",
    "ModifyTargetGroupAttributes",
    "RegisterTargets",
    "RemoveListenerCertificates",
    "RemoveTags",
    "RevokeSecurityGroupIngress",
    "SetIpAddressType",
    "SetSecurityGroups",
    "SetSubnets",
    "DeleteTags",
];

/// Until nothing is left to do, whatever is lost meanwhile.
async fn through(cloud: &Cloud, stack: &str, plan: impl Fn(&Seen) -> Plan) -> usize {
    let mut lost = 0;
    for _ in 0..60 {
        let there = seen(cloud, stack).await;
        let plan = plan(&there);
        if plan.steps.is_empty() {
            return lost;
        }
        match cloud.apply(&plan, &mut Made::default()).await {
            Ok(_) => {}
            Err((_, Error::Unavailable { .. })) => lost += 1,
            Err((step, error)) => panic!("{error} at {:?}", plan.steps[step]),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no end");
}

/// Everything that can be changed is another.
fn changed(lab: &Lab, certificates: &[String], wanted: &Wanted) -> Wanted {
    let mut wanted = wanted.clone();
    let load_balancer = &mut wanted.load_balancer;
    load_balancer.subnets.pop();
    load_balancer.ip_address_type = IpAddressType::Dualstack;
    load_balancer.attributes.clear();
    load_balancer.security_groups = vec![lab.node_group.clone()];
    load_balancer.tags.remove("team");
    load_balancer.tags.insert("cost".into(), "y".into());
    let listener = wanted.listeners.get_mut(&443).unwrap();
    listener.certificates = vec![certificates[0].clone(), certificates[2].clone()];
    listener.alpn = Some("HTTP2Preferred".to_owned());
    let listener = wanted.listeners.get_mut(&80).unwrap();
    listener
        .attributes
        .insert("tcp.idle_timeout.seconds".into(), "400".into());
    wanted.listeners.remove(&53);
    wanted.target_groups.remove("shop/web:53");
    let group = wanted.target_groups.get_mut("shop/web:80").unwrap();
    group.health_check.interval = 30;
    group.targets.pop_first();
    group
        .attributes
        .insert("proxy_protocol_v2.enabled".into(), "true".into());
    let rules = &mut wanted.security_group.as_mut().unwrap().rules;
    rules.pop_first();
    rules.insert(Rule {
        protocol: "tcp",
        from: 443,
        to: 443,
        source: Source::Ipv4("0.0.0.0/0".into()),
    });
    wanted
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn every_write_whose_reply_is_lost_is_made_good_and_nothing_is_there_twice() {
    run(async {
        let lab = Lab::new("blue", 2).await;
        let mut certificates = vec![];
        for name in ["a", "b", "c"] {
            certificates.push(lab.aws.certificate(name).await.unwrap());
        }
        for action in WRITES {
            let (nth, what) = (1, What::LoseReply);
            lab.aws.fault(Fault { action, nth, what });
        }
        let cloud = lab.cloud().await;
        let mut first = lab.wanted("shop/web", "mine");
        first.load_balancer.tags.insert("team".into(), "x".into());
        let mut tls = first.listeners[&80].clone();
        tls.protocol = Protocol::Tls;
        tls.certificates = certificates[..2].to_vec();
        tls.target_group = "shop/web:443".to_owned();
        first.listeners.insert(443, tls);
        let mut group = first.target_groups["shop/web:80"].clone();
        group.name = "mine-443".to_owned();
        group.target_type = TargetType::Ip;
        group.targets.clear();
        group.attributes.clear();
        group
            .tags
            .insert("service.k8s.aws/resource".into(), "shop/web:443".into());
        first.target_groups.insert("shop/web:443".to_owned(), group);

        let mut lost = through(&cloud, "shop/web", |there| plan(&first, there)).await;
        let second = changed(&lab, &certificates, &first);
        lost += through(&cloud, "shop/web", |there| plan(&second, there)).await;
        let there = seen(&cloud, "shop/web").await;
        assert_eq!(there.load_balancers.len(), 1);
        assert_eq!(there.target_groups.len(), 2);
        lost += through(&cloud, "shop/web", |there| {
            teardown(there, OnDelete::Delete)
        })
        .await;
        let empty = lab.cloud().await.account(Duration::ZERO).await.unwrap();
        assert!(empty.stacks().is_empty(), "{empty:?}");
        // What only `retain` does.
        let retained = lab.wanted("shop/kept", "kept");
        lost += through(&cloud, "shop/kept", |there| plan(&retained, there)).await;
        lost += through(&cloud, "shop/kept", |there| {
            teardown(there, OnDelete::Retain)
        })
        .await;
        let calls = lab.aws.calls();
        let met: BTreeSet<&str> = (calls.iter())
            .filter(|call| call.forwarded && call.status.is_none())
            .map(|call| call.action.as_str())
            .collect();
        assert_eq!(met, WRITES.into());
        assert_eq!(lost, WRITES.len(), "a write is never sent again unseen");
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn one_throttled_call_holds_all_workers_back() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let cloud = lab.cloud().await;
        cloud.account(Duration::ZERO).await.unwrap();
        lab.aws.forget_calls();
        lab.aws.fault(Fault {
            action: "DescribeTargetHealth",
            nth: 1,
            what: What::Throttle,
        });
        let begun = Instant::now();
        let nobody = "arn:aws:elasticloadbalancing:eu-central-1:1:targetgroup/a/b";
        let _ = cloud.health(nobody).await;
        assert!(
            cloud.share(Service::Elb) < 0.6,
            "{}",
            cloud.share(Service::Elb)
        );
        assert_eq!(lab.aws.counts()["DescribeTargetHealth"], 2, "sent again");
        assert!(
            begun.elapsed() >= Duration::from_millis(500),
            "after a pause"
        );

        // A write that is throttled has not happened, and is sent again by itself.
        lab.aws.fault(Fault {
            action: "CreateTargetGroup",
            nth: 1,
            what: What::Throttle,
        });
        let wanted = lab.wanted("shop/web", "mine");
        let write = one(Action::CreateTargetGroup {
            key: "shop/web:80".to_owned(),
            target_group: wanted.target_groups["shop/web:80"].clone(),
        });
        let worker = cloud.clone();
        let task = tokio::spawn(async move { worker.apply(&write, &mut Made::default()).await });
        while cloud.calls().of(Operation::CreateTargetGroup) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Whoever asks for anything else of the same service waits as well; of EC2 he does not.
        let begun = Instant::now();
        cloud.network(&lab.vpc, &[]).await.unwrap();
        let ec2 = begun.elapsed();
        let _ = cloud.health(nobody).await;
        assert!(
            begun.elapsed() >= Duration::from_millis(400),
            "{:?}",
            begun.elapsed()
        );
        assert!(ec2 < begun.elapsed());
        task.await.unwrap().unwrap();
        assert_eq!(lab.aws.counts()["CreateTargetGroup"], 2);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_missing_right_is_named_for_every_operation() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        lab.aws.fault(Fault {
            action: "*",
            nth: EVERY,
            what: What::Deny,
        });
        let cloud = lab.cloud().await;
        let at = || Ref::There("arn".to_owned());
        let wanted = lab.wanted("shop/web", "mine");
        let group = wanted.target_groups["shop/web:80"].clone();
        for (step, action) in [
            (
                Action::CreateTargetGroup {
                    key: "a".to_owned(),
                    target_group: group.clone(),
                },
                "elasticloadbalancing:CreateTargetGroup",
            ),
            (
                Action::DeleteLoadBalancer {
                    load_balancer: at(),
                },
                "elasticloadbalancing:DeleteLoadBalancer",
            ),
            (
                Action::CreateSecurityGroup {
                    vpc: lab.vpc.clone(),
                    group: wanted.security_group.clone().unwrap(),
                },
                "ec2:CreateSecurityGroup",
            ),
            (
                Action::DeleteSecurityGroup {
                    group: Ref::There("sg-1".to_owned()),
                },
                "ec2:DeleteSecurityGroup",
            ),
        ] {
            let (_, error) = cloud
                .apply(&one(step), &mut Made::default())
                .await
                .unwrap_err();
            let Error::Denied { action: named, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(named, action);
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("the IAM action {action} is not allowed"))
            );
        }
        let error = cloud.account(Duration::ZERO).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("elasticloadbalancing:DescribeLoadBalancers"),
            "{error}"
        );
        let error = cloud.network(&lab.vpc, &[]).await.unwrap_err();
        assert!(error.to_string().contains("ec2:DescribeVpcs"), "{error}");
        // Refused for good: nothing is sent twice.
        assert!(
            lab.aws.counts().values().all(|count| *count == 1),
            "{:?}",
            lab.aws.counts()
        );
    });
}
