//! How the nodes come to let the load balancers in.

use std::{collections::BTreeSet, time::Duration};

use aws::{
    input::Network,
    nodes::{Missing, missing, traffic_group},
};
use aws_cloud::{Cloud, Error, Operation};
use moto::{EVERY, Fault, What};

use crate::lab::{Lab, run};

impl Lab {
    /// Tags the nodes' security group, as kubeadm, kops and EKS do.
    async fn tag_nodes(&self) {
        let tag = aws_sdk_ec2::types::Tag::builder()
            .key(format!("kubernetes.io/cluster/{}", self.cluster))
            .value("owned");
        let call = self.ec2.create_tags().resources(&self.node_group);
        call.tags(tag.build()).send().await.unwrap();
    }

    /// Protocols and ports of the rules on the nodes' group, and whom they let in.
    async fn rules(&self) -> BTreeSet<(String, i32, i32, String)> {
        let call = self.ec2.describe_security_groups();
        let found = call.group_ids(&self.node_group).send().await.unwrap();
        let rules = found.security_groups()[0].ip_permissions().iter();
        rules
            .flat_map(|rule| {
                let groups = rule.user_id_group_pairs().iter();
                groups.map(|from| {
                    (
                        rule.ip_protocol().unwrap().to_owned(),
                        rule.from_port().unwrap(),
                        rule.to_port().unwrap(),
                        from.group_id().unwrap().to_owned(),
                    )
                })
            })
            .collect()
    }

    fn admits(&self, network: &Network) -> String {
        assert_eq!(missing(network, &self.cluster, &[]), Missing::Nothing);
        traffic_group(network, &self.cluster).unwrap().to_owned()
    }
}

fn writes(cloud: &Cloud) -> [u64; 2] {
    [
        Operation::CreateSecurityGroup,
        Operation::AuthorizeSecurityGroupIngress,
    ]
    .map(|operation| cloud.calls().of(operation))
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn nodes_let_in_the_traffic_group_after_two_writes_and_never_again() {
    run(async {
        let lab = Lab::new("blue", 1).await;
        lab.tag_nodes().await;
        let cloud = lab.cloud().await;
        let before = cloud.network(&lab.vpc, &[]).await.unwrap();
        assert_eq!(traffic_group(&before, "blue"), None);
        assert_eq!(cloud.calls().writes(), 0, "looking only");

        let askers: Vec<_> = (0..5)
            .map(|_| {
                let (cloud, vpc) = (cloud.clone(), lab.vpc.clone());
                tokio::spawn(async move { cloud.admit(&vpc, &[]).await.unwrap() })
            })
            .collect();
        for asker in askers {
            let traffic = lab.admits(&asker.await.unwrap());
            let rule = |protocol: &str| (protocol.to_owned(), 0, 65535, traffic.clone());
            assert_eq!(lab.rules().await, [rule("tcp"), rule("udp")].into());
        }
        assert_eq!(writes(&cloud), [1, 1]);
        let total = cloud.calls().total();
        cloud.admit(&lab.vpc, &[]).await.unwrap();
        assert_eq!(cloud.calls().total(), total);

        // What is kept is what a restart reads, and that finds nothing to do.
        let other = lab.cloud().await;
        let read = other.admit(&lab.vpc, &[]).await.unwrap();
        assert_eq!(*read, *cloud.network(&lab.vpc, &[]).await.unwrap());
        assert_eq!(writes(&other), [0, 0]);
        // No stack has it: an orphan it is not.
        let account = other.account(Duration::ZERO).await.unwrap();
        assert!(account.stacks().is_empty(), "{account:?}");
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn every_cluster_has_a_traffic_group_of_its_own() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let nodes = [lab.node_group.clone()];
        let blue = lab.cloud().await.admit(&lab.vpc, &nodes).await.unwrap();
        let lab = lab.of_cluster("green");
        let green = lab.cloud().await.admit(&lab.vpc, &nodes).await.unwrap();
        let (blue, green) = (traffic_group(&blue, "blue"), traffic_group(&green, "green"));
        assert!(blue.is_some() && green.is_some() && blue != green);
        assert_eq!(lab.rules().await.len(), 4);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_write_whose_reply_is_lost_is_found_done() {
    run(async {
        for action in ["CreateSecurityGroup", "AuthorizeSecurityGroupIngress"] {
            let lab = Lab::new("blue", 0).await;
            lab.tag_nodes().await;
            let (nth, what) = (1, What::LoseReply);
            lab.aws.fault(Fault { action, nth, what });
            let cloud = lab.cloud().await;
            let error = cloud.admit(&lab.vpc, &[]).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
            let network = cloud.admit(&lab.vpc, &[]).await.unwrap();
            let traffic = lab.admits(&network);
            let rules = lab.rules().await;
            assert!(rules.len() == 2 && rules.iter().all(|rule| rule.3 == traffic));
            // A process that has seen nothing of it.
            let other = lab.cloud().await;
            assert_eq!(
                lab.admits(&other.admit(&lab.vpc, &[]).await.unwrap()),
                traffic
            );
            assert_eq!(writes(&other), [0, 0]);
        }
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_refusal_is_not_asked_for_again_by_every_service() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        lab.tag_nodes().await;
        lab.aws.fault(Fault {
            action: "CreateSecurityGroup",
            nth: EVERY,
            what: What::Deny,
        });
        let cloud = lab.cloud().await;
        for _ in 0..3 {
            let error = cloud.admit(&lab.vpc, &[]).await.unwrap_err();
            let Error::Denied { action, .. } = error else {
                panic!("{error}")
            };
            assert_eq!(action, "ec2:CreateSecurityGroup");
        }
        assert_eq!(writes(&cloud), [1, 0]);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn without_a_group_of_the_nodes_nothing_is_written() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        let cloud = lab.cloud().await;
        let network = cloud.admit(&lab.vpc, &[]).await.unwrap();
        assert_eq!(traffic_group(&network, "blue"), None);
        let elsewhere = ["sg-00000000000000000".to_owned()];
        cloud.admit(&lab.vpc, &elsewhere).await.unwrap();
        assert_eq!(writes(&cloud), [0, 0]);
    });
}

#[test]
#[ignore = "moto: needs Python and PyPI"]
fn a_strangers_group_of_that_name_is_not_taken() {
    run(async {
        let lab = Lab::new("blue", 0).await;
        lab.tag_nodes().await;
        let name = aws::names::traffic_security_group("blue");
        let call = lab.ec2.create_security_group().group_name(name);
        let call = call.description("mine").vpc_id(&lab.vpc);
        call.send().await.unwrap();
        let error = lab.cloud().await.admit(&lab.vpc, &[]).await.unwrap_err();
        assert!(matches!(error, Error::Duplicate { .. }), "{error}");
        assert!(lab.rules().await.is_empty());
    });
}
