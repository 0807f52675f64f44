//! What a load balancer can have, each carried out and found again.

use std::{collections::BTreeSet, time::Duration};

use aws::{
    diff::{OnDelete, teardown},
    plan::{Action, Forward, Ref},
    wanted::{IpAddressType, Protocol, Scheme, Target, TargetType, Wanted},
};
use aws_cloud::{Cloud, Error, Made, Operation};

use crate::lab::{Lab, one, plan, run, seen, settle};

/// Only TCP on 80.
fn plain(lab: &Lab) -> Wanted {
    let mut wanted = lab.wanted("shop/web", "mine");
    wanted.listeners.remove(&53);
    wanted.target_groups.remove("shop/web:53");
    wanted
}

/// A second look by a process that has seen nothing finds nothing to do.
async fn settled(lab: &Lab, wanted: &Wanted) {
    let there = seen(&lab.cloud().await, &wanted.stack).await;
    assert_eq!(plan(wanted, &there).steps, []);
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_tls_listener_has_its_certificates_policy_and_alpn() {
    run(async {
        let lab = Lab::new("blue", 1).await;
        let cloud = lab.cloud().await;
        let mut certificates = vec![];
        for name in ["a", "b", "c"] {
            certificates.push(lab.aws.certificate(name).await.unwrap());
        }
        let third = certificates.pop().unwrap();
        let mut wanted = plain(&lab);
        let listener = wanted.listeners.get_mut(&80).unwrap();
        listener.protocol = Protocol::Tls;
        listener.certificates = certificates.clone();
        listener.ssl_policy = Some("ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned());
        listener.alpn = Some("HTTP2Preferred".to_owned());
        settle(&cloud, &wanted).await;
        let there = seen(&cloud, "shop/web").await;
        let details = there.load_balancers[0].details.as_ref().unwrap();
        let listener = &details.listeners[&80];
        assert_eq!(listener.protocol, Some(Protocol::Tls));
        assert_eq!(listener.certificates, certificates);
        assert_eq!(listener.alpn.as_deref(), Some("HTTP2Preferred"));
        settled(&lab, &wanted).await;

        // Another default, one more and one less; no ALPN any more.
        let listener = wanted.listeners.get_mut(&80).unwrap();
        listener.certificates = vec![certificates[1].clone(), third];
        listener.alpn = None;
        settle(&cloud, &wanted).await;
        let there = seen(&cloud, "shop/web").await;
        let details = there.load_balancers[0].details.as_ref().unwrap();
        let found = &details.listeners[&80].certificates;
        assert_eq!(found, &wanted.listeners[&80].certificates);
        settled(&lab, &wanted).await;
        // And no TLS.
        wanted
            .listeners
            .insert(80, plain(&lab).listeners[&80].clone());
        settle(&cloud, &wanted).await;
        settled(&lab, &wanted).await;
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_listener_forwards_to_two_groups_by_weight() {
    run(async {
        let lab = Lab::new("blue", 1).await;
        let cloud = lab.cloud().await;
        let mut wanted = plain(&lab);
        settle(&cloud, &wanted).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        // Another health check makes no other group; another target type does.
        let group = wanted.target_groups.get_mut("shop/web:80").unwrap();
        group.target_type = TargetType::Ip;
        group.name = "other".to_owned();
        group.targets = BTreeSet::from([Target {
            id: "10.0.0.77".to_owned(),
            port: 8080,
            zone: None,
        }]);
        let steps = plan(&wanted, &seen(&cloud, "shop/web").await);
        cloud.apply(&steps, &mut Made::default()).await.unwrap();
        let there = seen(&cloud, "shop/web").await;
        let details = there.load_balancers[0].details.as_ref().unwrap();
        let mut weights: Vec<u32> = details.listeners[&80].forward.values().copied().collect();
        weights.sort_unstable();
        assert_eq!(weights, [0, 1]);
        assert!(
            there
                .target_groups
                .iter()
                .all(|group| group.load_balancers.len() == 1)
        );
        // Weights as they are asked for.
        let forward: Vec<Forward> = (there.target_groups.iter().zip([30, 70]))
            .map(|(group, weight)| Forward {
                target_group: Ref::There(group.arn.clone()),
                weight,
            })
            .collect();
        let modify = one(Action::ModifyListener {
            arn: details.listeners[&80].arn.clone(),
            port: 80,
            listener: wanted.listeners[&80].clone(),
            forward,
        });
        cloud.apply(&modify, &mut Made::default()).await.unwrap();
        let there = seen(&cloud, "shop/web").await;
        let details = there.load_balancers[0].details.as_ref().unwrap();
        let weights: BTreeSet<u32> = details.listeners[&80].forward.values().copied().collect();
        assert_eq!(weights, [30, 70].into());
        settle(&cloud, &wanted).await;
        assert_eq!(seen(&cloud, "shop/web").await.target_groups.len(), 1);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn elastic_ips_private_addresses_and_dualstack_are_found_again() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let cloud = lab.cloud().await;
        let mut wanted = plain(&lab);
        for mapping in &mut wanted.load_balancer.subnets {
            let address = lab.ec2.allocate_address().send().await.unwrap();
            mapping.allocation = address.allocation_id().map(str::to_owned);
        }
        wanted.load_balancer.ip_address_type = IpAddressType::Dualstack;
        settle(&cloud, &wanted).await;
        let there = &seen(&cloud, "shop/web").await.load_balancers[0];
        assert_eq!(there.ip_address_type, IpAddressType::Dualstack);
        let allocations = |mappings: &[aws::wanted::SubnetMapping]| -> BTreeSet<Option<String>> {
            mappings
                .iter()
                .map(|mapping| mapping.allocation.clone())
                .collect()
        };
        assert_eq!(
            allocations(&there.subnets),
            allocations(&wanted.load_balancer.subnets)
        );
        wanted.load_balancer.ip_address_type = IpAddressType::Ipv4;
        settle(&cloud, &wanted).await;
        settled(&lab, &wanted).await;

        // Another scheme is another load balancer: both are there for a while.
        let mut inner = plain(&lab);
        inner.stack = "shop/inner".to_owned();
        inner.load_balancer.name = "inner".to_owned();
        inner.load_balancer.scheme = Scheme::Internal;
        inner.security_group = None;
        inner
            .load_balancer
            .tags
            .insert("portolan.dev/stack".into(), "shop/inner".into());
        inner.target_groups.clear();
        inner.listeners.clear();
        for (mapping, address) in inner
            .load_balancer
            .subnets
            .iter_mut()
            .zip(["10.0.0.9", "10.0.1.9"])
        {
            mapping.private_ipv4 = Some(address.to_owned());
        }
        settle(&cloud, &inner).await;
        let there = seen(&cloud, "shop/inner").await;
        let addresses: BTreeSet<_> = (there.load_balancers[0].subnets.iter())
            .filter_map(|mapping| mapping.private_ipv4.as_deref())
            .collect();
        assert_eq!(addresses, ["10.0.0.9", "10.0.1.9"].into());
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn many_pods_are_registered_in_batches_also_those_outside_the_vpc() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let cloud = lab.cloud().await;
        let mut wanted = plain(&lab);
        let pod = |n: u16, zone: Option<&str>| Target {
            id: match zone {
                None => format!("10.0.{}.{}", n / 200, n % 200 + 4),
                Some(_) => format!("100.64.0.{n}"),
            },
            port: 8080,
            zone: zone.map(str::to_owned),
        };
        let group = wanted.target_groups.get_mut("shop/web:80").unwrap();
        group.target_type = TargetType::Ip;
        group.targets = (0..390).map(|n| pod(n, None)).collect();
        group.targets.extend((1..21).map(|n| pod(n, Some("all"))));
        wanted.load_balancer.attributes.clear();
        // 410 in one zone would be fine, too: AWS allows 500.
        settle(&cloud, &wanted).await;
        assert_eq!(cloud.calls().of(Operation::RegisterTargets), 3);
        let there = seen(&cloud, "shop/web").await;
        let details = there.target_groups[0].details.as_ref().unwrap();
        let found: BTreeSet<Target> = details.targets.keys().cloned().collect();
        assert_eq!(found, wanted.target_groups["shop/web:80"].targets);
        // All but five go, in batches.
        let group = wanted.target_groups.get_mut("shop/web:80").unwrap();
        group.targets = (0..5).map(|n| pod(n, None)).collect();
        settle(&cloud, &wanted).await;
        assert_eq!(cloud.calls().of(Operation::DeregisterTargets), 3);
    });
}

async fn tear_down(cloud: &Cloud, on_delete: OnDelete) -> Result<(), Error> {
    for _ in 0..20 {
        let there = seen(cloud, "shop/web").await;
        let plan = teardown(&there, on_delete);
        let applied = cloud.apply(&plan, &mut Made::default()).await;
        applied.map_err(|(_, error)| error)?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        if plan.steps.is_empty() {
            break;
        }
    }
    Ok(())
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn what_is_retained_stays_whole_and_is_nobodys() {
    run(async {
        let lab = Lab::new("blue", 1).await;
        let cloud = lab.cloud().await;
        let mut wanted = lab.wanted("shop/web", "mine");
        wanted.load_balancer.tags.insert("team".into(), "x".into());
        settle(&cloud, &wanted).await;
        let before = seen(&cloud, "shop/web").await;
        tear_down(&cloud, OnDelete::Retain).await.unwrap();
        let account = lab.cloud().await.account(Duration::ZERO).await.unwrap();
        assert!(account.stacks().is_empty(), "{account:?}");
        let arn = &before.load_balancers[0].arn;
        let left = cloud.load_balancer(arn).await.unwrap().unwrap();
        assert_eq!(left.tags, [("team".to_owned(), "x".to_owned())].into());
        let listeners = lab.elb.describe_listeners().load_balancer_arn(arn);
        assert_eq!(listeners.send().await.unwrap().listeners().len(), 2);
        for group in &before.target_groups {
            assert_eq!(cloud.health(&group.arn).await.unwrap().len(), 1);
        }
        let id = before.security_group.unwrap().id;
        let group = lab.ec2.describe_security_groups().group_ids(id);
        assert!(
            group.send().await.unwrap().security_groups()[0]
                .tags()
                .is_empty()
        );
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn deletion_protection_holds_against_plans_and_against_calls() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let cloud = lab.cloud().await;
        let mut wanted = plain(&lab);
        let protection = "deletion_protection.enabled".to_owned();
        wanted
            .load_balancer
            .attributes
            .insert(protection.clone(), "true".into());
        settle(&cloud, &wanted).await;
        tear_down(&cloud, OnDelete::Delete).await.unwrap();
        let there = seen(&cloud, "shop/web").await;
        assert_eq!(there.load_balancers.len(), 1);
        let delete = one(Action::DeleteLoadBalancer {
            load_balancer: Ref::There(there.load_balancers[0].arn.clone()),
        });
        let (_, error) = cloud
            .apply(&delete, &mut Made::default())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
        assert!(error.to_string().contains("deletion protection"), "{error}");
        wanted
            .load_balancer
            .attributes
            .insert(protection, "false".into());
        settle(&cloud, &wanted).await;
        tear_down(&cloud, OnDelete::Delete).await.unwrap();
        assert!(seen(&cloud, "shop/web").await.load_balancers.is_empty());
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_security_group_goes_when_the_interfaces_that_have_it_are_gone() {
    run(async {
        let lab = Lab::with("blue", 0, &[("INTERFACE_SECONDS", "2")]).await;
        let cloud = lab.cloud().await;
        settle(&cloud, &plain(&lab)).await;
        let error = tear_down(&cloud, OnDelete::Delete).await.unwrap_err();
        assert!(matches!(error, Error::Dependency { .. }), "{error}");
        let left = seen(&cloud, "shop/web").await;
        assert!(left.load_balancers.is_empty() && left.security_group.is_some());
        tokio::time::sleep(Duration::from_secs(2)).await;
        tear_down(&cloud, OnDelete::Delete).await.unwrap();
        assert!(seen(&cloud, "shop/web").await.security_group.is_none());
    });
}
