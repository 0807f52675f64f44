//! A cluster whose controller serves AWS: the embedded API server, the whole controller in process,
//! and an emulated AWS behind a proxy that logs calls and injects faults.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "test code: a broken assumption must end the test"
)]

use std::{collections::BTreeMap, time::Duration};

use aws_cloud::{Connect, Limit, Limits};
use controller::shell::{
    Options,
    aws::{Settings, provider},
};
use moto::{Aws, Network, Query, REGION, Service};
use serde_json::{Value, json};
use tests::{
    cluster::{Cluster, condition},
    stage::{Running, Stage},
};

pub mod figures;

/// The cluster's name.
pub const CLUSTER: &str = "test";
/// The class that AWS Load Balancer Controller serves.
pub const CLASS: &str = "service.k8s.aws/nlb";

/// Where a test plays.
pub struct Play {
    pub stage: Stage,
    pub aws: Aws,
    pub network: Network,
}

/// Whoever runs the ignored tests wants them to run: without moto they fail with the reason.
pub async fn start(settings: &[(&str, &str)]) -> Aws {
    match Aws::start_with(settings).await {
        Ok(aws) => aws,
        Err(why) => panic!("NOT RUN: {why}"),
    }
}

/// A provider's settings that test faster than AWS would like.
pub fn settings(aws: &Aws, network: &Network) -> Settings {
    let fast = Limit {
        burst: 1000,
        rate: 1000.0,
    };
    let connect = Connect {
        region: Some(REGION.to_owned()),
        vpc: Some(network.vpc.clone()),
        endpoint: Some(aws.endpoint()),
        keys: Some(("a".to_owned(), "b".to_owned())),
        limits: Limits {
            elb_describe: fast,
            elb_targets: fast,
            elb_modify: fast,
            elb_write: fast,
            ec2_describe: fast,
            ec2_write: fast,
            verify: fast,
        },
        ..Connect::new(CLUSTER)
    };
    Settings {
        node_window: Duration::from_millis(100),
        poll_interval: Duration::from_millis(200),
        verify_interval: Duration::from_secs(3600),
        ..Settings::new(connect)
    }
}

/// A controller's options with that provider.
pub fn options(identity: &str, settings: Settings) -> Options {
    Options {
        aws: Some(provider(settings)),
        ..Options::single(identity)
    }
}

impl Play {
    /// Three zones, five instances of which three are nodes, a class of AWS and nodePorts.
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        Self::with_instances(settings, 5).await
    }

    /// The same with so many instances.
    pub async fn with_instances(settings: &[(&str, &str)], instances: usize) -> Self {
        let stage = Stage::bare_on_clock(Duration::from_secs(2)).await;
        let cluster = &stage.cluster;
        cluster
            .create(tests::fixtures::cluster_pool(
                "cluster",
                &["10.96.0.0/16", "fd00:10:96::/112"],
            ))
            .await;
        cluster
            .create(json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "NodePortPool",
                "metadata": {"name": "nodes"}, "spec": {"ports": ["30000-32767"]},
            }))
            .await;
        let play = Self::on(stage, settings, instances).await;
        play.add_nodes(0..3).await;
        play
    }

    /// On a cluster that has the custom resources; it gets a class of AWS.
    pub async fn on(stage: Stage, settings: &[(&str, &str)], instances: usize) -> Self {
        let aws = start(settings).await;
        let network = aws.network(3, instances).await.unwrap();
        let tag = format!("kubernetes.io/cluster/{CLUSTER}");
        let pairs = [
            ("ResourceId.1", network.security_group.as_str()),
            ("Tag.1.Key", &tag),
            ("Tag.1.Value", "owned"),
        ];
        let tagged = aws.query().call(Service::Ec2, "CreateTags", &pairs).await;
        assert!(tagged.unwrap().status.is_success());
        stage.cluster.create(class(json!({}))).await;
        Self {
            stage,
            aws,
            network,
        }
    }

    /// These instances become nodes.
    pub async fn add_nodes(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let instance = &self.network.instances[number];
            let node = node(&format!("n{number}"), &instance.provider_id);
            self.cluster().create(node).await;
        }
    }

    pub fn cluster(&self) -> &Cluster {
        &self.stage.cluster
    }

    pub fn settings(&self) -> Settings {
        settings(&self.aws, &self.network)
    }

    /// Starts a controller.
    pub fn controller(&self, identity: &str) -> Running {
        self.controller_with(identity, self.settings())
    }

    pub fn controller_with(&self, identity: &str, settings: Settings) -> Running {
        Running::start(self.stage.client.clone(), options(identity, settings))
    }

    /// Waits until the Service is served; the name that it shows.
    pub async fn ready(&self, name: &str) -> String {
        let service = self
            .cluster()
            .until_service(name, "is ready", |service| reason(service) == "Ready")
            .await;
        hostname(&service).unwrap_or_else(|| panic!("{name} is ready without a name: {service}"))
    }

    /// Waits until the Service says this, and returns the message.
    pub async fn says(&self, name: &str, word: &str) -> String {
        let service = self
            .cluster()
            .until_service(name, &format!("says {word}"), |service| {
                reason(service) == word
            })
            .await;
        let ready = condition(&service, "LoadBalancerReady").unwrap();
        ready["message"].as_str().unwrap().to_owned()
    }

    /// Waits until it is gone.
    pub async fn gone(&self, name: &str) {
        let key = format!("default/{name}");
        self.cluster()
            .until(&format!("{name} is gone"), async |cluster| {
                cluster.get("Service", &key).await.is_none()
            })
            .await;
    }

    /// Nothing is written any more, neither by waiting nor by a restart, to the API server or to AWS.
    /// Leaves no controller running.
    pub async fn fixed_point(&self, running: Running) {
        let before = self.cluster().settled().await;
        running.stop().await;
        self.aws.forget_calls();
        let mut again = self.controller("restarted");
        again.until("idle", |state| state.idle).await;
        let after = self.cluster().settled().await;
        assert_eq!(
            self.writes(),
            [""; 0],
            "the second pass over unchanged input wrote to AWS"
        );
        assert_eq!(after, before, "the second pass over unchanged input wrote");
        again.stop().await;
    }

    /// Calls to AWS since they were forgotten that change something.
    pub fn writes(&self) -> Vec<String> {
        let calls = self.aws.calls().into_iter().map(|call| call.action);
        calls
            .filter(|action| !action.starts_with("Describe"))
            .collect()
    }

    /// Calls to Elastic Load Balancing since they were forgotten.
    pub fn elb_calls(&self) -> usize {
        figures::Tally::of(&self.aws.calls()).elb()
    }

    /// One describing call past the proxy: its body.
    pub async fn elb(&self, action: &str, parameters: &[(&str, &str)]) -> moto::Reply {
        let query: Query = self.aws.query();
        let reply = query.call(Service::Elbv2, action, parameters).await;
        let reply = reply.unwrap();
        assert!(reply.status.is_success(), "{action}: {reply:?}");
        reply
    }

    pub async fn ec2(&self, action: &str, parameters: &[(&str, &str)]) -> moto::Reply {
        let query: Query = self.aws.query();
        let reply = query.call(Service::Ec2, action, parameters).await;
        let reply = reply.unwrap();
        assert!(reply.status.is_success(), "{action}: {reply:?}");
        reply
    }

    /// ARNs of all load balancers.
    pub async fn load_balancers(&self) -> Vec<String> {
        let reply = self.elb("DescribeLoadBalancers", &[]).await;
        reply.all("LoadBalancerArn")
    }

    /// ARNs of all target groups.
    pub async fn target_groups(&self) -> Vec<String> {
        let reply = self.elb("DescribeTargetGroups", &[]).await;
        reply.all("TargetGroupArn")
    }

    /// What is registered, and how it is: `id:port` to state.
    pub async fn targets(&self, group: &str) -> BTreeMap<String, String> {
        let reply = self
            .elb("DescribeTargetHealth", &[("TargetGroupArn", group)])
            .await;
        let ids = reply.all("Id");
        let ports = reply.all("Port");
        let states = reply.all("State");
        let targets = ids
            .iter()
            .zip(ports)
            .map(|(id, port)| format!("{id}:{port}"));
        targets.zip(states).collect()
    }

    /// The load balancer's attributes, tags or the like: text that holds this.
    pub async fn attributes(&self, arn: &str) -> String {
        let parameters = [("LoadBalancerArn", arn)];
        self.elb("DescribeLoadBalancerAttributes", &parameters)
            .await
            .body
    }

    /// Nothing of ours is left in the account but what belongs to the cluster as a whole.
    pub async fn nothing_left(&self) {
        assert_eq!(self.load_balancers().await, [""; 0]);
        assert_eq!(self.target_groups().await, [""; 0]);
        let groups = self
            .ec2(
                "DescribeSecurityGroups",
                &[
                    ("Filter.1.Name", "tag-key"),
                    ("Filter.1.Value.1", "service.k8s.aws/stack"),
                ],
            )
            .await;
        assert_eq!(groups.all("groupId"), [""; 0]);
    }
}

/// A Service of type LoadBalancer that AWS is to serve.
pub fn service(name: &str, ports: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": name},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": CLASS, "ports": ports},
    })
}

/// The same with annotations, those of AWS Load Balancer Controller without their long prefix.
pub fn annotated(mut service: Value, annotations: &[(&str, &str)]) -> Value {
    for (name, value) in annotations {
        service["metadata"]["annotations"][full(name)] = json!(value);
    }
    service
}

/// `scheme` to its full name.
pub fn full(name: &str) -> String {
    match name.contains('/') {
        true => name.to_owned(),
        false => format!("service.beta.kubernetes.io/aws-load-balancer-{name}"),
    }
}

/// One TCP port.
pub fn tcp(port: u16) -> Value {
    json!([{"name": "web", "port": port, "protocol": "TCP"}])
}

/// The class with this in `spec.aws`.
pub fn class(aws: Value) -> Value {
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
        "metadata": {"name": "nlb"}, "spec": {"className": CLASS, "aws": aws},
    })
}

pub fn node(name: &str, provider_id: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name}, "spec": {"providerID": provider_id},
    })
}

/// The reason of the Service's `LoadBalancerReady` condition.
pub fn reason(service: &Value) -> String {
    let ready = condition(service, "LoadBalancerReady");
    let ready = ready.unwrap_or_default();
    ready["reason"].as_str().unwrap_or_default().to_owned()
}

/// The name in the Service's status.
pub fn hostname(service: &Value) -> Option<String> {
    let name = &service["status"]["loadBalancer"]["ingress"][0]["hostname"];
    name.as_str().map(str::to_owned)
}
