use crate::lab::lab;
use crate::sentences;

sentences! {
    async fn a_resource_has_50_tags() {
        let lab = lab(&[]).await;
        let of = format!("ResourceArns.member.1={}", lab.balancer("one").await);
        let tags = |first: usize, count: usize| {
            let mut text = of.clone();
            for number in 1..=count {
                text += &format!(" Tags.member.{number}.Key=k{} Tags.member.{number}.Value=v", first + number);
            }
            text
        };
        lab.ok("AddTags", &tags(0, 50)).await;
        lab.ok("AddTags", &tags(0, 1)).await;
        lab.refused("AddTags", &tags(50, 1), "TooManyTags").await;
        assert_eq!(lab.ok("DescribeTags", &of).await.all("Key").len(), 50);
        lab.ok("RemoveTags", &format!("{of} TagKeys.member.1=k1")).await;
        assert_eq!(lab.ok("DescribeTags", &of).await.all("Key").len(), 49);
    }

    async fn tags_of_20_resources_are_described_at_a_time_and_all_of_them_exist() {
        let lab = lab(&[]).await;
        let mut text = String::new();
        for number in 1..=20 {
            let arn = lab.group(&format!("g{number}"), "TCP").await;
            text += &format!(" ResourceArns.member.{number}={arn}");
        }
        assert_eq!(lab.ok("DescribeTags", &text).await.all("ResourceArn").len(), 20);
        let more = lab.group("more", "TCP").await;
        text += &format!(" ResourceArns.member.21={more}");
        lab.refused("DescribeTags", &text, "ValidationError").await;
        lab.ok("DeleteTargetGroup", &format!("TargetGroupArn={more}")).await;
        lab.refused("DescribeTags", &format!("ResourceArns.member.1={more}"), "TargetGroupNotFound").await;
    }

    async fn tags_given_at_creation_are_there_for_balancers_groups_and_listeners() {
        let lab = lab(&[]).await;
        let tag = "Tags.member.1.Key=owner Tags.member.1.Value=us";
        let balancer = lab.ok("CreateLoadBalancer", &format!("{} {tag}", lab.wanted("lb"))).await;
        let balancer = balancer.first("LoadBalancerArn").unwrap();
        let group = lab.ok("CreateTargetGroup", &format!("{} {tag}", lab.wanted_group("g", "TCP"))).await;
        let group = group.first("TargetGroupArn").unwrap();
        let forward = crate::lab::forward(&group);
        let listener = lab.ok("CreateListener", &format!("LoadBalancerArn={balancer} Protocol=TCP Port=80 {forward} {tag}")).await;
        let listener = listener.first("ListenerArn").unwrap();
        for arn in [balancer, group, listener] {
            let tags = lab.ok("DescribeTags", &format!("ResourceArns.member.1={arn}")).await;
            assert_eq!((tags.all("Key"), tags.all("Value")), (vec!["owner".to_owned()], vec!["us".to_owned()]), "{arn}");
        }
    }
}
