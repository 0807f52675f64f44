use moto::{Aws, REGION};

use crate::lab::lab;
use crate::sentences;

sentences! {
    async fn a_network_has_public_subnets_in_zones_of_their_own_and_nodes_with_provider_ids() {
        let lab = lab(&[]).await;
        let zones: Vec<_> = lab.network.subnets.iter().map(|s| s.zone.clone()).collect();
        assert_eq!(zones, ["a", "b", "c"].map(|letter| format!("{REGION}{letter}")));
        let tables = lab.ec2("DescribeRouteTables", &format!("Filter.1.Name=vpc-id Filter.1.Value.1={}", lab.network.vpc)).await;
        for subnet in &lab.network.subnets {
            assert!(tables.all("subnetId").contains(&subnet.id), "{tables:?}");
        }
        assert!(tables.all("gatewayId").iter().any(|id| id.starts_with("igw-")), "{tables:?}");
        let tagged = lab.ec2("DescribeSubnets", "Filter.1.Name=tag:kubernetes.io/role/elb Filter.1.Value.1=1").await;
        assert_eq!(tagged.all("subnetId").len(), 3, "{tagged:?}");
        let node = &lab.network.instances[1];
        assert_eq!(node.provider_id, format!("aws:///{REGION}b/{}", node.id));
        assert!(node.address.starts_with("10.0.1."), "{node:?}");
    }

    async fn moto_ends_with_its_aws() {
        let lab = lab(&[]).await;
        let (query, proxy) = (lab.aws.query(), lab.aws.query_endpoint());
        drop(lab);
        for client in [query, proxy] {
            let ended = async {
                while client.call(moto::Service::Ec2, "DescribeVpcs", &[]).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.unwrap();
        }
    }

    async fn two_aws_know_nothing_of_each_other() {
        let (one, two) = (lab(&[]).await, lab(&[]).await);
        one.balancer("one").await;
        let seen = two.ok("DescribeLoadBalancers", "").await;
        assert_eq!(seen.all("LoadBalancerArn").len(), 0);
        let _: [&Aws; 2] = [&one.aws, &two.aws];
    }
}
