//! Whole ways through an emulated AWS.

use std::{collections::BTreeSet, time::Duration};

use aws::{
    diff::{OnDelete, teardown},
    plan::{Action, Ref},
    wanted::{Protocol, Rule, Source, Target},
};
use aws_cloud::{Depth, Error, Made, Operation, Progress};

use crate::lab::{Lab, ids, mapping, one, plan, run, seen, settle};

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_wish_comes_true_changes_and_goes_and_the_snapshot_keeps_up() {
    run(async {
        let lab = Lab::new("whole", 3).await;
        let cloud = lab.cloud().await;
        let mut wanted = lab.wanted("shop/web", "whole");
        assert!(settle(&cloud, &wanted).await > 0);
        let there = seen(&cloud, "shop/web").await;
        assert_eq!(there.load_balancers.len(), 1);
        assert_eq!(there.target_groups.len(), 2);
        assert_eq!(there.security_group.unwrap().rules.len(), 3);

        // A change of nearly everything that can be changed in place.
        wanted.listeners.get_mut(&80).unwrap().protocol = Protocol::Tcp;
        let group = wanted.target_groups.get_mut("shop/web:80").unwrap();
        group.health_check.interval = 30;
        group.targets.pop_first();
        let attributes = &mut wanted.load_balancer.attributes;
        attributes.insert("load_balancing.cross_zone.enabled".into(), "false".into());
        wanted.load_balancer.tags.insert("team".into(), "x".into());
        let rules = &mut wanted.security_group.as_mut().unwrap().rules;
        rules.pop_first();
        rules.insert(Rule {
            protocol: "icmp",
            from: 3,
            to: 4,
            source: Source::Ipv4("0.0.0.0/0".into()),
        });
        wanted.listeners.remove(&53);
        wanted.target_groups.remove("shop/web:53");
        assert!(settle(&cloud, &wanted).await > 0);

        // What our own writes made of the snapshot is what a fresh listing finds.
        let fresh = lab.cloud().await.account(Duration::ZERO).await.unwrap();
        assert_eq!(cloud.snapshot().unwrap(), fresh);
        let there = fresh.seen("shop/web");
        assert_eq!(there.target_groups.len(), 1);
        assert_eq!(there.target_groups[0].health_check.interval, 30);
        assert_eq!(there.load_balancers[0].tags.get("team").unwrap(), "x");

        for _ in 0..20 {
            let there = seen(&cloud, "shop/web").await;
            let plan = teardown(&there, OnDelete::Delete);
            cloud.apply(&plan, &mut Made::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(cloud.snapshot().unwrap().stacks().is_empty());
        let fresh = lab.cloud().await.account(Duration::ZERO).await.unwrap();
        assert!(fresh.stacks().is_empty(), "{fresh:?}");
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn the_snapshot_needs_no_listing_to_know_what_we_wrote() {
    run(async {
        let lab = Lab::new("written", 1).await;
        let cloud = lab.cloud().await;
        let mut wanted = lab.wanted("shop/web", "written");
        let before = seen(&cloud, "shop/web").await;
        let creation = plan(&wanted, &before);
        cloud.apply(&creation, &mut Made::default()).await.unwrap();
        let mut written = cloud.snapshot().unwrap().seen("shop/web");
        let mut listed = lab
            .cloud()
            .await
            .account(Duration::ZERO)
            .await
            .unwrap()
            .seen("shop/web");
        // The reply to the creation says `provisioning`; the first listing may say `active`.
        for there in written
            .load_balancers
            .iter_mut()
            .chain(&mut listed.load_balancers)
        {
            there.active = true;
        }
        assert_eq!(written, listed);

        settle(&cloud, &wanted).await;
        let group = wanted.target_groups.get_mut("shop/web:80").unwrap();
        group.health_check.interval = 30;
        group.tags.insert("team".into(), "x".into());
        wanted.load_balancer.tags.insert("team".into(), "x".into());
        wanted.load_balancer.subnets.pop();
        let rules = &mut wanted.security_group.as_mut().unwrap().rules;
        rules.pop_first();
        rules.insert(Rule {
            protocol: "icmp",
            from: 3,
            to: 4,
            source: Source::Ipv4("0.0.0.0/0".into()),
        });
        let before = seen(&cloud, "shop/web").await;
        let change = plan(&wanted, &before);
        let listings = cloud.calls().of(Operation::DescribeTargetGroups);
        cloud.apply(&change, &mut Made::default()).await.unwrap();
        assert_eq!(cloud.calls().of(Operation::DescribeTargetGroups), listings);
        let written = cloud.snapshot().unwrap().seen("shop/web");
        let account = lab.cloud().await.account(Duration::ZERO).await.unwrap();
        assert_eq!(written, account.seen("shop/web"));
        let names: Vec<String> = change
            .steps
            .iter()
            .map(|step| format!("{:?}", step.action))
            .collect();
        for action in [
            "ModifyTargetGroup {",
            "AddTags",
            "SetSubnets",
            "AuthorizeSecurityGroupIngress",
            "RevokeSecurityGroupIngress",
        ] {
            let there = names.iter().any(|name| name.starts_with(action));
            assert!(there, "no {action} in {names:?}");
        }
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn every_plan_can_be_carried_out_twice() {
    run(async {
        let lab = Lab::new("twice", 2).await;
        let cloud = lab.cloud().await;
        let wanted = lab.wanted("shop/web", "twice");
        let empty = seen(&cloud, "shop/web").await;
        let creation = plan(&wanted, &empty);
        let (mut first, mut second) = (Made::default(), Made::default());
        cloud.apply(&creation, &mut first).await.unwrap();
        // A replica that has seen nothing of the first.
        let other = lab.cloud().await;
        other.apply(&creation, &mut second).await.unwrap();
        assert_eq!(first.target_groups, second.target_groups);
        assert_eq!(first.listeners, second.listeners);
        assert_eq!(first.security_group, second.security_group);
        let arn = |made: &Made| made.load_balancer.as_ref().unwrap().arn.clone();
        assert_eq!(arn(&first), arn(&second));
        settle(&cloud, &wanted).await;
        assert_eq!(seen(&cloud, "shop/web").await.load_balancers.len(), 1);

        for _ in 0..20 {
            let there = seen(&cloud, "shop/web").await;
            let plan = teardown(&there, OnDelete::Delete);
            cloud.apply(&plan, &mut Made::default()).await.unwrap();
            other.apply(&plan, &mut Made::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert!(
            cloud
                .account(Duration::ZERO)
                .await
                .unwrap()
                .stacks()
                .is_empty()
        );
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn many_askers_make_one_listing_and_tags_are_asked_for_once() {
    run(async {
        let lab = Lab::new("flight", 0).await;
        let cloud = lab.cloud().await;
        settle(&cloud, &lab.wanted("shop/web", "flight")).await;
        let cloud = lab.cloud().await;
        let minute = Duration::from_secs(60);
        let askers: Vec<_> = (0..10)
            .map(|_| {
                let cloud = cloud.clone();
                tokio::spawn(async move { cloud.account(minute).await.unwrap() })
            })
            .collect();
        for asker in askers {
            assert_eq!(
                asker.await.unwrap().seen("shop/web").load_balancers.len(),
                1
            );
        }
        let calls = cloud.calls();
        assert_eq!(calls.of(Operation::DescribeLoadBalancers), 1);
        assert_eq!(calls.of(Operation::DescribeTargetGroups), 1);
        let tags = calls.of(Operation::DescribeTags);
        assert_eq!(tags, 1);
        cloud.account(Duration::ZERO).await.unwrap();
        assert_eq!(cloud.calls().of(Operation::DescribeLoadBalancers), 2);
        assert_eq!(cloud.calls().writes(), 0);
        assert_eq!(cloud.calls().of(Operation::DescribeTags), tags);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn what_has_our_name_and_not_our_tags_is_left_alone() {
    run(async {
        let lab = Lab::new("names", 0).await;
        settle(&lab.cloud().await, &lab.wanted("shop/web", "names")).await;
        let lab = lab.of_cluster("another");
        let cloud = lab.cloud().await;
        let wanted = lab.wanted("shop/web", "names");
        let there = seen(&cloud, "shop/web").await;
        assert!(there.load_balancers.is_empty() && there.target_groups.is_empty());
        let plan = plan(&wanted, &there);
        let answer = cloud.apply(&plan, &mut Made::default()).await;
        let (_, error) = answer.unwrap_err();
        assert!(matches!(error, Error::Duplicate { .. }), "{error}");
    });
}

/// AWS answers CreateLoadBalancer with the one that is there, if that is equal.
#[test]
#[ignore = "moto: needs Python and PyPI"]
fn an_equal_load_balancer_of_the_same_name_is_not_seized() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let cloud = lab.cloud().await;
        let chosen = |stack: &str| {
            let mut wanted = lab.wanted(stack, "api");
            wanted.security_group = None;
            for group in wanted.target_groups.values_mut() {
                group.name = group.tags["service.k8s.aws/resource"].replace(['/', ':'], "-");
            }
            wanted
        };
        settle(&cloud, &chosen("shop/web")).await;
        let before = seen(&cloud, "shop/web").await;
        let creation = plan(&chosen("bank/web"), &seen(&cloud, "bank/web").await);
        let (_, error) = cloud
            .apply(&creation, &mut Made::default())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Duplicate { .. }), "{error}");
        assert!(error.to_string().contains("api"), "{error}");
        assert_eq!(seen(&cloud, "shop/web").await, before);
        assert!(seen(&cloud, "bank/web").await.load_balancers.is_empty());
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn lbcs_load_balancers_are_ours() {
    use aws_sdk_elasticloadbalancingv2::types::{LoadBalancerTypeEnum, Tag};
    run(async {
        let lab = Lab::new("lbc", 0).await;
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let make = |name: &str, kind| {
            let call = lab.elb.create_load_balancer().name(name).r#type(kind);
            let call = call.set_subnets(Some(lab.subnets.clone()));
            call.tags(tag("elbv2.k8s.aws/cluster", &lab.cluster))
                .tags(tag("service.k8s.aws/stack", "shop/web"))
                .send()
        };
        make("net", LoadBalancerTypeEnum::Network).await.unwrap();
        let account = lab.cloud().await.account(Duration::ZERO).await.unwrap();
        let names: Vec<_> = account.load_balancers["shop/web"]
            .iter()
            .map(|there| there.name.as_str())
            .collect();
        assert_eq!(names, ["net"]);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn the_network_is_read_once() {
    run(async {
        let lab = Lab::new("network", 0).await;
        let roles = ["kubernetes.io/role/elb", "kubernetes.io/role/internal-elb"];
        for role in roles {
            let tag = aws_sdk_ec2::types::Tag::builder().key(role).build();
            let call = lab
                .ec2
                .delete_tags()
                .set_resources(Some(lab.subnets.clone()));
            call.tags(tag).send().await.unwrap();
        }
        let cloud = lab.cloud().await;
        let network = cloud.network(&lab.vpc, &[]).await.unwrap();
        assert_eq!(network.vpc, lab.vpc);
        assert_eq!(network.cidrs, ["10.0.0.0/16".parse().unwrap()]);
        let found: BTreeSet<_> = network.subnets.iter().map(|there| &there.id).collect();
        assert_eq!(found, lab.subnets.iter().collect());
        for subnet in &network.subnets {
            assert!(subnet.public, "{subnet:?}");
            assert!(subnet.available > 200, "{subnet:?}");
            assert!(subnet.zone.starts_with("eu-central-1"), "{subnet:?}");
            assert!(subnet.ipv4.is_some(), "{subnet:?}");
        }
        assert!(!network.security_groups.is_empty(), "the default one");
        let total = cloud.calls().total();
        assert_eq!(total, 4);
        cloud.network(&lab.vpc, &[]).await.unwrap();
        assert_eq!(cloud.calls().total(), total);

        // With subnets tagged for both roles nobody asks which are public.
        for role in roles {
            let tag = aws_sdk_ec2::types::Tag::builder()
                .key(role)
                .value("1")
                .build();
            let call = lab.ec2.create_tags().resources(&lab.subnets[0]).tags(tag);
            call.send().await.unwrap();
        }
        cloud.forget_networks();
        cloud.network(&lab.vpc, &[]).await.unwrap();
        assert_eq!(cloud.calls().of(Operation::DescribeRouteTables), 1);
        assert_eq!(cloud.calls().of(Operation::DescribeSubnets), 2);

        let error = cloud
            .network("vpc-00000000000000000", &[])
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("vpc-00000000000000000"),
            "{error}"
        );
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn refusals_are_told_apart() {
    run(async {
        let lab = Lab::new("refusals", 1).await;
        let cloud = lab.cloud().await;
        let wanted = lab.wanted("shop/web", "refusals");
        settle(&cloud, &wanted).await;
        let there = seen(&cloud, "shop/web").await;
        let arn = there.target_groups[0].arn.clone();
        let plan = one(Action::DeleteTargetGroup {
            target_group: Ref::There(arn.clone()),
        });
        let answer = cloud.apply(&plan, &mut Made::default()).await;
        let (step, error) = answer.unwrap_err();
        assert_eq!(step, 0);
        assert!(matches!(error, Error::InUse { .. }), "{error}");

        let plan = one(Action::SetSubnets {
            load_balancer: Ref::There(there.load_balancers[0].arn.clone()),
            subnets: vec![mapping("subnet-00000000000000000")],
            ipv6_source_nat: false,
        });
        let answer = cloud.apply(&plan, &mut Made::default()).await;
        let (_, error) = answer.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");

        let plan = one(Action::DeleteTargetGroup {
            target_group: Ref::Made("nobody".to_owned()),
        });
        let answer = cloud.apply(&plan, &mut Made::default()).await;
        let (_, error) = answer.unwrap_err();
        assert!(error.to_string().contains("nobody"), "{error}");

        // Gone is gone: nothing is there under these names.
        let gone = arn.replace("targetgroup/", "targetgroup/x");
        let error = cloud.health(&gone).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        assert!(
            cloud
                .load_balancer(&gone)
                .await
                .is_ok_and(|found| found.is_none())
        );
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_stopped_instance_does_not_keep_the_others_out() {
    run(async {
        let lab = Lab::new("stopped", 3).await;
        let cloud = lab.cloud().await;
        let mut wanted = lab.wanted("shop/web", "stopped");
        for group in wanted.target_groups.values_mut() {
            group.targets.clear();
        }
        settle(&cloud, &wanted).await;
        let stop = lab.ec2.stop_instances().instance_ids(&lab.instances[1]);
        stop.send().await.unwrap();
        let there = seen(&cloud, "shop/web").await;
        let arn = there.target_groups[0].arn.clone();
        let target = |id: &String| Target {
            id: id.clone(),
            port: 30080,
            zone: None,
        };
        let plan = one(Action::RegisterTargets {
            target_group: Ref::There(arn.clone()),
            targets: lab.instances.iter().map(target).collect(),
        });
        let mut made = Made::default();
        let progress = cloud.apply(&plan, &mut made).await.unwrap();
        assert_eq!(progress, Progress::Done);
        let refused: BTreeSet<Target> = made.refused.into_keys().collect();
        assert_eq!(ids(&refused), [&lab.instances[1]]);
        assert_eq!(cloud.health(&arn).await.unwrap().len(), 2);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn what_was_deleted_behind_our_back_is_taken_out() {
    run(async {
        let lab = Lab::new("vanished", 0).await;
        let cloud = lab.cloud().await;
        settle(&cloud, &lab.wanted("shop/web", "vanished")).await;
        let mut old = cloud.snapshot().unwrap().seen("shop/web");
        let arn = old.load_balancers[0].arn.clone();
        let delete = lab.elb.delete_load_balancer().load_balancer_arn(&arn);
        delete.send().await.unwrap();
        cloud.look(&mut old, Depth::Usual).await.unwrap();
        assert!(old.load_balancers.is_empty());
        assert!(
            old.target_groups
                .iter()
                .all(|group| group.load_balancers.is_empty())
        );
        assert!(
            cloud
                .snapshot()
                .unwrap()
                .seen("shop/web")
                .load_balancers
                .is_empty()
        );
    });
}
