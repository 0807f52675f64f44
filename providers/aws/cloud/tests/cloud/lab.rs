//! What the tests stand on: clients, a VPC of their own, a wish, a server that says what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use aws::{
    diff::{Situation, diff},
    plan::{Action, Effect, Plan, Step},
    seen::Seen,
    tags,
    wanted::{
        HealthCheck, HealthCheckProtocol, IpAddressType, Listener, LoadBalancer, Protocol, Rule,
        Scheme, SecurityGroup, Source, SubnetMapping, Tags, Target, TargetGroup, TargetType,
        Wanted,
    },
};
use aws_cloud::{Cloud, Connect, Depth, Made, Progress};
use aws_sdk_ec2::config::{Credentials, Region};

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(test)
}

/// A server that answers one request after another as it is told, and notes the `Action` of each.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

pub(crate) fn server(answers: Vec<(u16, String)>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    thread::spawn(move || {
        let mut answers = answers.into_iter();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap() == 0 || line == "\r\n" {
                    break;
                }
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            noted.lock().unwrap().push(String::from_utf8(body).unwrap());
            let Some((status, text)) = answers.next() else {
                return; // the connection closes without an answer
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: text/xml\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n",
                text.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
        }
    });
    Server { endpoint, asked }
}

/// A refusal in the form of Elastic Load Balancing.
pub(crate) fn refusal(status: u16, code: &str) -> (u16, String) {
    let text = format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>words</Message>\
         </Error><RequestId>r</RequestId></ErrorResponse>"
    );
    (status, text)
}

/// An answer in the form of Elastic Load Balancing.
pub(crate) fn answer(operation: &str, inner: &str) -> (u16, String) {
    let text = format!(
        "<{operation}Response xmlns=\"http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/\">\
         <{operation}Result>{inner}</{operation}Result></{operation}Response>"
    );
    (200, text)
}

pub(crate) async fn connect(endpoint: &str, cluster: &str, vpc: &str) -> Cloud {
    let connect = Connect {
        region: Some(moto::REGION.to_owned()),
        endpoint: Some(endpoint.to_owned()),
        vpc: Some(vpc.to_owned()),
        keys: Some(("a".to_owned(), "b".to_owned())),
        ..Connect::new(cluster)
    };
    Cloud::connect(connect).await.unwrap()
}

/// An AWS with a VPC of two public subnets in two zones, and some instances.
pub(crate) struct Lab {
    pub(crate) aws: moto::Aws,
    /// The security group of the instances, without a tag.
    pub(crate) node_group: String,
    pub(crate) cluster: String,
    pub(crate) vpc: String,
    pub(crate) subnets: Vec<String>,
    pub(crate) instances: Vec<String>,
    /// Past the proxy.
    pub(crate) ec2: aws_sdk_ec2::Client,
    /// Past the proxy.
    pub(crate) elb: aws_sdk_elasticloadbalancingv2::Client,
}

impl Lab {
    pub(crate) async fn new(cluster: &str, instances: usize) -> Self {
        Self::with(cluster, instances, &[]).await
    }

    /// With settings of `portolan_moto/settings.py`.
    pub(crate) async fn with(cluster: &str, instances: usize, settings: &[(&str, &str)]) -> Self {
        let aws = match moto::Aws::start_with(settings).await {
            Ok(aws) => aws,
            Err(why) => panic!("NOT RUN: {why}"),
        };
        let network = aws.network(2, instances).await.unwrap();
        let credentials = Credentials::new("a", "b", None, None, "test");
        let ec2 = aws_sdk_ec2::Config::builder()
            .behavior_version_latest()
            .http_client(http())
            .region(Region::new(moto::REGION))
            .credentials_provider(credentials.clone())
            .endpoint_url(aws.direct());
        let elb = aws_sdk_elasticloadbalancingv2::Config::builder()
            .behavior_version_latest()
            .http_client(http())
            .region(Region::new(moto::REGION))
            .credentials_provider(credentials)
            .endpoint_url(aws.direct());
        Self {
            cluster: cluster.to_owned(),
            vpc: network.vpc.clone(),
            subnets: network.subnets.iter().map(|one| one.id.clone()).collect(),
            instances: network.instances.iter().map(|one| one.id.clone()).collect(),
            ec2: aws_sdk_ec2::Client::from_conf(ec2.build()),
            elb: aws_sdk_elasticloadbalancingv2::Client::from_conf(elb.build()),
            node_group: network.security_group,
            aws,
        }
    }

    /// The same AWS and VPC for another cluster.
    pub(crate) fn of_cluster(self, cluster: &str) -> Self {
        Self {
            cluster: cluster.to_owned(),
            ..self
        }
    }

    /// One that has seen nothing yet.
    pub(crate) async fn cloud(&self) -> Cloud {
        connect(&self.aws.endpoint(), &self.cluster, &self.vpc).await
    }

    fn tags(&self, stack: &str, resource: &str) -> Tags {
        [
            (tags::CLUSTER, self.cluster.as_str()),
            (tags::STACK, stack),
            (tags::LBC_CLUSTER, self.cluster.as_str()),
            (tags::LBC_STACK, stack),
            (tags::LBC_RESOURCE, resource),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// A load balancer with TCP on 80 and UDP on 53, nodes behind it, and a security group.
    pub(crate) fn wanted(&self, stack: &str, name: &str) -> Wanted {
        let group = |port: u16, protocol, node_port: u16| {
            let key = format!("{stack}:{port}");
            let targets = self.instances.iter().map(|id| Target {
                id: id.clone(),
                port: node_port,
                zone: None,
            });
            let group = TargetGroup {
                name: format!("{name}-{port}"),
                vpc: self.vpc.clone(),
                protocol,
                port: node_port,
                target_type: TargetType::Instance,
                ipv6: false,
                health_check: HealthCheck {
                    protocol: HealthCheckProtocol::Tcp,
                    port: "traffic-port".to_owned(),
                    path: None,
                    success_codes: None,
                    interval: 10,
                    timeout: 10,
                    healthy_threshold: 3,
                    unhealthy_threshold: 3,
                },
                attributes: [("preserve_client_ip.enabled", "true")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                targets: targets.collect(),
                tags: self.tags(stack, &key),
            };
            (key, group)
        };
        let listener = |port: u16, protocol| {
            let listener = Listener {
                protocol,
                certificates: Vec::new(),
                ssl_policy: None,
                alpn: None,
                target_group: format!("{stack}:{port}"),
                attributes: BTreeMap::new(),
            };
            (port, listener)
        };
        let rule = |protocol, port: i32, source| Rule {
            protocol,
            from: port,
            to: port,
            source,
        };
        Wanted {
            stack: stack.to_owned(),
            adopt: None,
            load_balancer: LoadBalancer {
                name: name.to_owned(),
                scheme: Scheme::InternetFacing,
                ip_address_type: IpAddressType::Ipv4,
                subnets: self.subnets.iter().map(|id| mapping(id)).collect(),
                security_groups: Vec::new(),
                attributes: [("load_balancing.cross_zone.enabled", "true")]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                tags: self.tags(stack, tags::RESOURCE_LOAD_BALANCER),
                enforce_rules_on_private_link: None,
                ipv6_source_nat: false,
            },
            listeners: [listener(80, Protocol::Tcp), listener(53, Protocol::Udp)].into(),
            target_groups: [
                group(80, Protocol::Tcp, 30080),
                group(53, Protocol::Udp, 30053),
            ]
            .into(),
            security_group: Some(SecurityGroup {
                name: name.to_owned(),
                description: "for a test".to_owned(),
                rules: [
                    rule("tcp", 80, Source::Ipv4("0.0.0.0/0".to_owned())),
                    rule("udp", 53, Source::Ipv4("10.0.0.0/8".to_owned())),
                    rule("udp", 53, Source::Ipv4("192.0.2.0/24".to_owned())),
                ]
                .into(),
                tags: self.tags(stack, tags::RESOURCE_SECURITY_GROUP),
            }),
            warnings: Vec::new(),
        }
    }
}

pub(crate) fn mapping(subnet: &str) -> SubnetMapping {
    SubnetMapping {
        subnet: subnet.to_owned(),
        ..SubnetMapping::default()
    }
}

fn http() -> aws_smithy_runtime_api::client::http::SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

/// What there is, looked at as closely as can be; listed anew.
pub(crate) async fn seen(cloud: &Cloud, stack: &str) -> Seen {
    let account = cloud.account(std::time::Duration::ZERO).await.unwrap();
    let mut seen = account.seen(stack);
    cloud
        .look(&mut seen, Depth::ListenerAttributes)
        .await
        .unwrap();
    seen
}

pub(crate) fn plan(wanted: &Wanted, seen: &Seen) -> Plan {
    diff(Situation {
        wanted,
        seen,
        shown: None,
        now: 1_800_000_000,
        removed_percent: 100,
    })
}

/// Plans and carries out until nothing is left to do; how many plans that took.
pub(crate) async fn settle(cloud: &Cloud, wanted: &Wanted) -> usize {
    for plans in 0..30 {
        let seen = seen(cloud, &wanted.stack).await;
        let plan = plan(wanted, &seen);
        if plan.steps.is_empty() {
            return plans;
        }
        let mut made = Made::default();
        let progress = cloud.apply(&plan, &mut made).await;
        let progress = progress.unwrap_or_else(|(step, error)| {
            panic!("{error} at {:?}", plan.steps[step]);
        });
        assert!(made.refused.is_empty(), "{:?}", made.refused);
        if matches!(progress, Progress::Waiting { .. }) {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    }
    let seen = seen(cloud, &wanted.stack).await;
    panic!("no end: {:#?}", plan(wanted, &seen));
}

pub(crate) fn ids(targets: &BTreeSet<Target>) -> Vec<&str> {
    targets.iter().map(|target| target.id.as_str()).collect()
}

/// A plan of one step.
pub(crate) fn one(action: Action) -> Plan {
    let effect = Effect::None;
    Plan {
        steps: vec![Step { effect, action }],
        ..Plan::default()
    }
}
