//! An AWS with a network, and calls to it that read as sentences.

use moto::{Aws, Network, Reply, Service};

pub(crate) struct Lab {
    pub(crate) aws: Aws,
    pub(crate) network: Network,
}

/// Whoever runs the ignored tests wants them to run: without moto they fail with the reason.
pub(crate) async fn start(settings: &[(&str, &str)]) -> Aws {
    match Aws::start_with(settings).await {
        Ok(aws) => aws,
        Err(why) => panic!("NOT RUN: {why}"),
    }
}

/// Three zones and three instances.
pub(crate) async fn lab(settings: &[(&str, &str)]) -> Lab {
    let aws = start(settings).await;
    let network = aws.network(3, 3).await.unwrap();
    Lab { aws, network }
}

/// `"Name=one Type=network"` as parameters.
pub(crate) fn form(text: &str) -> Vec<(&str, &str)> {
    let pairs = text.split_whitespace();
    pairs.map(|pair| pair.split_once('=').unwrap()).collect()
}

impl Lab {
    pub(crate) async fn elb(&self, action: &str, parameters: &str) -> Reply {
        let query = self.aws.query();
        let reply = query.call(Service::Elbv2, action, &form(parameters)).await;
        reply.unwrap()
    }

    pub(crate) async fn ec2(&self, action: &str, parameters: &str) -> Reply {
        let query = self.aws.query();
        let reply = query.call(Service::Ec2, action, &form(parameters)).await;
        reply.unwrap()
    }

    pub(crate) async fn ok(&self, action: &str, parameters: &str) -> Reply {
        let reply = self.elb(action, parameters).await;
        assert!(
            reply.status.is_success(),
            "{action} {parameters}: {reply:?}"
        );
        reply
    }

    pub(crate) async fn refused(&self, action: &str, parameters: &str, code: &str) {
        let reply = self.elb(action, parameters).await;
        let said = reply.error();
        assert_eq!(
            said.as_deref(),
            Some(code),
            "{action} {parameters}: {reply:?}"
        );
    }

    pub(crate) fn subnet(&self, number: usize) -> &str {
        &self.network.subnets[number].id
    }

    pub(crate) fn instance(&self, number: usize) -> &str {
        &self.network.instances[number].id
    }

    /// CreateLoadBalancer's parameters with the first subnet.
    pub(crate) fn wanted(&self, name: &str) -> String {
        let subnet = self.subnet(0);
        format!("Name={name} Type=network Subnets.member.1={subnet}")
    }

    pub(crate) async fn balancer(&self, name: &str) -> String {
        let reply = self.ok("CreateLoadBalancer", &self.wanted(name)).await;
        reply.first("LoadBalancerArn").unwrap()
    }

    /// CreateTargetGroup's parameters.
    pub(crate) fn wanted_group(&self, name: &str, protocol: &str) -> String {
        let vpc = &self.network.vpc;
        format!("Name={name} Protocol={protocol} Port=30000 VpcId={vpc} TargetType=instance")
    }

    pub(crate) async fn group(&self, name: &str, protocol: &str) -> String {
        let wanted = self.wanted_group(name, protocol);
        let reply = self.ok("CreateTargetGroup", &wanted).await;
        reply.first("TargetGroupArn").unwrap()
    }

    pub(crate) async fn listener(&self, balancer: &str, port: u16, group: &str) -> String {
        let wanted = format!(
            "LoadBalancerArn={balancer} Protocol=TCP Port={port} {}",
            forward(group)
        );
        let reply = self.ok("CreateListener", &wanted).await;
        reply.first("ListenerArn").unwrap()
    }

    pub(crate) async fn register(&self, group: &str, instance: &str, port: u16) {
        let target = target(group, instance, port);
        self.ok("RegisterTargets", &target).await;
    }

    pub(crate) async fn deregister(&self, group: &str, instance: &str, port: u16) {
        let target = target(group, instance, port);
        self.ok("DeregisterTargets", &target).await;
    }

    /// Port and state of each target.
    pub(crate) async fn health(&self, group: &str) -> Vec<(String, String)> {
        let action = "DescribeTargetHealth";
        let reply = self.ok(action, &format!("TargetGroupArn={group}")).await;
        let ports = reply.all("Port").into_iter();
        ports.zip(reply.all("State")).collect()
    }

    /// The value of an attribute of the thing whose ARN the parameters give.
    pub(crate) async fn attribute(&self, action: &str, of: &str, key: &str) -> Option<String> {
        let reply = self.ok(action, of).await;
        let mut pairs = reply.all("Key").into_iter().zip(reply.all("Value"));
        pairs.find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

pub(crate) fn forward(group: &str) -> String {
    format!("DefaultActions.member.1.Type=forward DefaultActions.member.1.TargetGroupArn={group}")
}

/// A forward to groups with weights.
pub(crate) fn weighted(groups: &[(&str, u16)]) -> String {
    let action = "DefaultActions.member.1";
    let mut text = format!("{action}.Type=forward");
    for (number, (group, weight)) in (1..).zip(groups) {
        let tuple = format!("{action}.ForwardConfig.TargetGroups.member.{number}");
        text += &format!(" {tuple}.TargetGroupArn={group} {tuple}.Weight={weight}");
    }
    text
}

pub(crate) fn target(group: &str, instance: &str, port: u16) -> String {
    let target = "Targets.member.1";
    format!("TargetGroupArn={group} {target}.Id={instance} {target}.Port={port}")
}

pub(crate) fn states(list: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(port, state): &(&str, &str)| ((*port).to_owned(), (*state).to_owned());
    list.iter().map(owned).collect()
}
