use crate::lab::{Lab, lab};
use crate::sentences;

async fn group(lab: &Lab, name: &str) -> String {
    let vpc = &lab.network.vpc;
    let wanted = format!("GroupName={name} GroupDescription={name} VpcId={vpc}");
    let made = lab.ec2("CreateSecurityGroup", &wanted).await;
    made.first("groupId").unwrap()
}

async fn balancer(lab: &Lab, group: &str) -> String {
    let wanted = format!("{} SecurityGroups.member.1={group}", lab.wanted("one"));
    let made = lab.ok("CreateLoadBalancer", &wanted).await;
    made.first("LoadBalancerArn").unwrap()
}

async fn delete(lab: &Lab, group: &str) -> Option<String> {
    let of = format!("GroupId={group}");
    lab.ec2("DeleteSecurityGroup", &of).await.error()
}

sentences! {
    async fn a_load_balancer_made_without_security_groups_never_gets_any() {
        let lab = lab(&[]).await;
        let (arn, group) = (lab.balancer("one").await, group(&lab, "a").await);
        let set = format!("LoadBalancerArn={arn} SecurityGroups.member.1={group}");
        lab.refused("SetSecurityGroups", &set, "InvalidConfigurationRequest").await;
        let seen = lab.ok("DescribeLoadBalancers", "").await;
        assert!(!seen.body.contains("EnforceSecurityGroupInbound"), "{seen:?}");
    }

    async fn security_groups_are_replaced_but_never_all_removed() {
        let lab = lab(&[]).await;
        let (one, two) = (group(&lab, "one").await, group(&lab, "two").await);
        let arn = balancer(&lab, &one).await;
        let set = format!("LoadBalancerArn={arn} SecurityGroups.member.1={two}");
        let said = lab.ok("SetSecurityGroups", &set).await;
        assert!(said.body.contains(&two), "{said:?}");
        let seen = lab.ok("DescribeLoadBalancers", "").await;
        assert!(seen.body.contains(&two) && !seen.body.contains(&one), "{seen:?}");
        lab.refused("SetSecurityGroups", &format!("LoadBalancerArn={arn}"), "InvalidConfigurationRequest").await;
    }

    async fn whether_private_link_traffic_is_judged_is_kept_and_shown() {
        let lab = lab(&[]).await;
        let group = group(&lab, "a").await;
        let arn = balancer(&lab, &group).await;
        let name = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic";
        let seen = lab.ok("DescribeLoadBalancers", "").await;
        assert_eq!(seen.first(name).as_deref(), Some("on"));
        let set = format!("LoadBalancerArn={arn} SecurityGroups.member.1={group} {name}=off");
        lab.ok("SetSecurityGroups", &set).await;
        let seen = lab.ok("DescribeLoadBalancers", "").await;
        assert_eq!(seen.first(name).as_deref(), Some("off"));
    }

    async fn a_security_group_is_not_deleted_while_a_load_balancer_uses_it() {
        let lab = lab(&[]).await;
        let group = group(&lab, "a").await;
        let arn = balancer(&lab, &group).await;
        assert_eq!(delete(&lab, &group).await.as_deref(), Some("DependencyViolation"));
        lab.ok("DeleteLoadBalancer", &format!("LoadBalancerArn={arn}")).await;
        assert_eq!(delete(&lab, &group).await, None);
    }

    async fn the_interfaces_of_a_deleted_load_balancer_hold_its_security_group_for_their_time() {
        let lab = lab(&[("INTERFACE_SECONDS", "3600")]).await;
        let group = group(&lab, "a").await;
        let arn = balancer(&lab, &group).await;
        lab.ok("DeleteLoadBalancer", &format!("LoadBalancerArn={arn}")).await;
        assert_eq!(delete(&lab, &group).await.as_deref(), Some("DependencyViolation"));
    }

    async fn a_security_group_is_not_deleted_while_a_rule_of_another_names_it() {
        let lab = lab(&[]).await;
        let (source, nodes) = (group(&lab, "source").await, &lab.network.security_group);
        let rule = format!("GroupId={nodes} IpPermissions.1.IpProtocol=tcp IpPermissions.1.FromPort=1 IpPermissions.1.ToPort=2 IpPermissions.1.Groups.1.GroupId={source}");
        lab.ec2("AuthorizeSecurityGroupIngress", &rule).await;
        assert_eq!(delete(&lab, &source).await.as_deref(), Some("DependencyViolation"));
        lab.ec2("RevokeSecurityGroupIngress", &rule).await;
        assert_eq!(delete(&lab, &source).await, None);
    }
}
