//! Load balancers of others, with their owner's consent.

use aws::{
    adoption::adoptable,
    diff::{OnDelete, teardown},
    input::Class,
    seen::Seen,
    wanted::{Scheme, TargetType, Wanted},
};
use aws_cloud::{Cloud, Depth, Made};
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, LoadBalancerTypeEnum, ProtocolEnum, Tag,
};

use crate::lab::{Lab, plan, run};

fn class(lab: &Lab) -> Class {
    Class {
        name: "cloud".to_owned(),
        region: None,
        cluster: lab.cluster.clone(),
        scheme: Scheme::Internal,
        target_type: TargetType::Instance,
        annotations: std::collections::BTreeMap::new(),
        tags: std::collections::BTreeMap::new(),
        node_security_groups: vec![],
        adoptable: std::collections::BTreeSet::new(),
        groups_across_namespaces: false,
        max_targets: None,
        security_group_rules: 60,
    }
}

impl Lab {
    /// A load balancer with a listener on 53 that nobody of ours has made.
    async fn theirs(&self) -> String {
        let call = self.elb.create_load_balancer().name("theirs");
        let call = call.r#type(LoadBalancerTypeEnum::Network);
        let made = call.set_subnets(Some(self.subnets.clone())).send().await;
        let made = made.unwrap().load_balancers()[0].clone();
        let arn = made.load_balancer_arn().unwrap().to_owned();
        let call = self.elb.create_target_group().name("theirs").port(53);
        let group = call.protocol(ProtocolEnum::Udp).vpc_id(&self.vpc);
        let group = group.send().await.unwrap().target_groups()[0].clone();
        let action = Action::builder().r#type(ActionTypeEnum::Forward);
        let action = action.target_group_arn(group.target_group_arn().unwrap());
        let call = self.elb.create_listener().load_balancer_arn(&arn).port(53);
        let call = call.protocol(ProtocolEnum::Udp);
        call.default_actions(action.build()).send().await.unwrap();
        arn
    }

    async fn ports(&self, arn: &str) -> Vec<i32> {
        let call = self.elb.describe_listeners().load_balancer_arn(arn);
        let found = call.send().await.unwrap();
        let mut ports: Vec<i32> = (found.listeners().iter())
            .filter_map(|listener| listener.port())
            .collect();
        ports.sort_unstable();
        ports
    }
}

async fn found(cloud: &Cloud, adopt: Option<&str>) -> Seen {
    let account = cloud.account(std::time::Duration::ZERO).await.unwrap();
    let mut seen = account.seen("shop/web");
    cloud.find_foreign(&mut seen, adopt).await.unwrap();
    cloud.look(&mut seen, Depth::Usual).await.unwrap();
    seen
}

async fn settle(cloud: &Cloud, wanted: &Wanted) -> Seen {
    for _ in 0..20 {
        let seen = found(cloud, wanted.adopt.as_deref()).await;
        let plan = plan(wanted, &seen);
        if plan.steps.is_empty() {
            return seen;
        }
        cloud.apply(&plan, &mut Made::default()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    panic!("no end");
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn one_that_consents_gets_our_listeners_on_free_ports_and_loses_them_when_nobody_says_so_any_more()
{
    run(async {
        let lab = Lab::new("blue", 1).await;
        let arn = lab.theirs().await;
        let cloud = lab.cloud().await;
        let seen = found(&cloud, Some(&arn)).await;
        let [there] = seen.foreign.as_slice() else {
            panic!("{seen:?}")
        };
        assert!(adoptable(&class(&lab), "shop/web", there).is_err());
        let tag = Tag::builder().key("portolan.dev/adoptable").value("blue");
        let call = lab.elb.add_tags().resource_arns(&arn).tags(tag.build());
        call.send().await.unwrap();
        let seen = found(&cloud, Some(&arn)).await;
        assert_eq!(
            adoptable(&class(&lab), "shop/web", &seen.foreign[0]),
            Ok(())
        );

        let mut wanted = lab.wanted("shop/web", "mine");
        wanted.adopt = Some(arn.clone());
        wanted.security_group = None;
        let seen = settle(&cloud, &wanted).await;
        assert_eq!(lab.ports(&arn).await, [53, 80]);
        assert_eq!(
            seen.target_groups.len(),
            1,
            "none for the port that is taken"
        );
        assert!(seen.load_balancers.is_empty() && seen.security_group.is_none());
        let warnings = plan(&wanted, &seen).warnings;
        assert!(
            warnings[0].contains("port 53 of load balancer theirs"),
            "{warnings:?}"
        );
        assert_eq!(seen.foreign[0].tags.len(), 1, "{:?}", seen.foreign[0].tags);

        // The Service is gone, and so is its annotation: what uses our target groups is found.
        for _ in 0..5 {
            let seen = found(&cloud, None).await;
            let plan = teardown(&seen, OnDelete::Delete);
            cloud.apply(&plan, &mut Made::default()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        assert_eq!(lab.ports(&arn).await, [53]);
        assert_eq!(found(&cloud, None).await, Seen::default());
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn without_load_balancers_of_others_nothing_is_asked() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let cloud = lab.cloud().await;
        crate::lab::settle(&cloud, &lab.wanted("shop/web", "mine")).await;
        let mut seen = cloud.snapshot().unwrap().seen("shop/web");
        let total = cloud.calls().total();
        cloud.find_foreign(&mut seen, None).await.unwrap();
        assert_eq!(cloud.calls().total(), total);
        assert!(seen.foreign.is_empty());

        let nobody = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/net/a/b";
        cloud.find_foreign(&mut seen, Some(nobody)).await.unwrap();
        assert!(seen.foreign.is_empty());
    });
}
