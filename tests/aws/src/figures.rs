//! What things cost in calls, with many Services: the benchmark prints it, a smaller test asserts it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aws_cloud::Limits;
use controller::shell::aws::Settings;
use futures::{StreamExt as _, stream};
use moto::{Call, Service};
use serde_json::{Value, json};
use tests::stage::{Running, told};

use crate::{Play, reason, service, tcp};

/// Longer than every pause of a provider with [`crate::settings`].
const QUIET: Duration = Duration::from_secs(2);
/// Nodes within so long are one change here.
const WINDOW: Duration = Duration::from_secs(2);
/// A step that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(3600);
/// Nodes that a cluster begins with.
pub const NODES: usize = 3;

/// How often each operation was asked for.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<(Service, String), usize>);

impl Tally {
    pub fn of(calls: &[Call]) -> Self {
        let mut tally = Self::default();
        for call in calls {
            *tally
                .0
                .entry((call.service, call.action.clone()))
                .or_default() += 1;
        }
        tally
    }

    fn sum(&self, counts: impl Fn(Service, &str) -> bool) -> usize {
        let counted = self
            .0
            .iter()
            .filter(|((service, action), _)| counts(*service, action));
        counted.map(|(_, count)| count).sum()
    }

    /// Calls of this operation.
    pub fn count(&self, action: &str) -> usize {
        self.sum(|_, other| other == action)
    }

    /// Calls to Elastic Load Balancing.
    pub fn elb(&self) -> usize {
        self.sum(|service, _| service == Service::Elbv2)
    }

    /// Calls to EC2.
    pub fn ec2(&self) -> usize {
        self.sum(|service, _| service == Service::Ec2)
    }

    pub fn reads(&self) -> usize {
        self.sum(|_, action| action.starts_with("Describe"))
    }

    pub fn writes(&self) -> usize {
        self.sum(|_, action| !action.starts_with("Describe"))
    }

    /// Sums and operations.
    pub fn json(&self) -> Value {
        let of = |service: Service| -> Value {
            let own = self.0.iter().filter(|((other, _), _)| *other == service);
            own.map(|((_, action), count)| (action.clone(), json!(count)))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        json!({
            "elb": self.elb(), "ec2": self.ec2(), "reads": self.reads(), "writes": self.writes(),
            "by_operation": {"elb": of(Service::Elbv2), "ec2": of(Service::Ec2)},
        })
    }
}

/// What a step cost.
#[derive(Debug)]
pub struct Step {
    /// Until what was waited for had come.
    pub seconds: f64,
    pub calls: Tally,
    /// To the API server, by the controller.
    pub kubernetes_writes: Vec<String>,
}

impl Step {
    /// With the calls for each of `services`.
    pub fn json(&self, services: usize) -> Value {
        let each = |count: usize| count as f64 / services as f64;
        json!({
            "seconds": self.seconds,
            "calls": self.calls.json(),
            "each": {
                "elb": each(self.calls.elb()), "ec2": each(self.calls.ec2()),
                "reads": each(self.calls.reads()), "writes": each(self.calls.writes()),
            },
            "kubernetes_writes": self.kubernetes_writes.len(),
        })
    }
}

/// A cluster with many Services.
pub struct Many {
    pub play: Play,
    pub services: usize,
}

fn name(number: usize) -> String {
    format!("s{number:04}")
}

impl Many {
    /// A cluster without any, in an account that has room for so many; 11 instances may become nodes.
    pub async fn new(services: usize) -> Self {
        let room = (services + 100).to_string();
        let quotas = [("LOAD_BALANCERS", &*room), ("TARGET_GROUPS", &room)];
        let play = Play::with_instances(&quotas, NODES + 11).await;
        Self { play, services }
    }

    /// Settings with a window for nodes.
    pub fn settings(&self) -> Settings {
        Settings {
            node_window: WINDOW,
            ..self.play.settings()
        }
    }

    /// What is done, and everything that follows from it.
    async fn step(&self, what: impl AsyncFnOnce()) -> Step {
        self.play.aws.forget_calls();
        self.play.stage.faults.log().clear();
        let begun = Instant::now();
        what().await;
        let seconds = begun.elapsed().as_secs_f64();
        self.quiet().await;
        let writes = self.play.stage.faults.log().writes();
        Step {
            seconds,
            calls: Tally::of(&self.play.aws.calls()),
            kubernetes_writes: writes.iter().map(told).collect(),
        }
    }

    /// Waits until AWS has not been called for a while.
    async fn quiet(&self) {
        let mut before = usize::MAX;
        loop {
            let now = self.play.aws.calls().len();
            if now == before {
                return;
            }
            before = now;
            tokio::time::sleep(QUIET).await;
        }
    }

    /// Waits until it holds.
    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !holds().await {
            let told = Tally::of(&self.play.aws.calls());
            assert!(begun.elapsed() < DEADLINE, "never {what}: {told:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_called(&self, action: &str, times: usize) {
        let what = format!("{times} times {action}");
        let called = async || Tally::of(&self.play.aws.calls()).count(action) >= times;
        self.until(&what, called).await;
    }

    /// All Services, one port each, are there before the controller is; until each is Ready.
    pub async fn create(&self) -> (Running, Step) {
        let cluster = self.play.cluster();
        stream::iter(0..self.services)
            .for_each_concurrent(8, |number| async move {
                cluster.create(service(&name(number), tcp(80))).await;
            })
            .await;
        let mut running = None;
        let step = self.step(async || {
            running = Some(self.play.controller_with("first", self.settings()));
            let all = async || {
                let services = cluster.all("Service").await;
                services
                    .iter()
                    .filter(|service| reason(service) == "Ready")
                    .count()
                    == self.services
            };
            self.until("all are ready", all).await;
        });
        let step = step.await;
        (running.unwrap(), step)
    }

    /// A controller starts over unchanged Services, until it is idle.
    pub async fn restart(&self, settings: Settings) -> (Running, Step) {
        let mut running = None;
        let step = self.step(async || {
            let mut again = self.play.controller_with("again", settings);
            again.until("idle", |state| state.idle).await;
            running = Some(again);
        });
        let step = step.await;
        (running.unwrap(), step)
    }

    /// The account is listed anew and every Service looked at, `times` times.
    pub async fn resync(&self, every: Duration, times: u32) -> Step {
        let settings = Settings {
            resync: every,
            ..self.settings()
        };
        let (running, _) = self.restart(settings).await;
        let step = self
            .step(async || tokio::time::sleep(every * times).await)
            .await;
        running.stop().await;
        step
    }

    /// These instances become nodes at once; until they are targets of every Service.
    pub async fn nodes(&self, numbers: std::ops::Range<usize>) -> Step {
        self.step(async || {
            self.play.add_nodes(numbers).await;
            self.until_called("RegisterTargets", self.services).await;
        })
        .await
    }

    /// Every load balancer is looked at closely, one after the other, as fast as it goes.
    pub async fn verify(&self) -> Step {
        let settings = Settings {
            verify_interval: Duration::from_millis(20),
            ..self.settings()
        };
        let running = self.play.controller_with("verifying", settings);
        // One call for each look.
        let look = "DescribeListeners";
        self.until_called(look, 1).await;
        let step = self.step(async || {
            self.until_called(look, self.services).await;
            running.stop().await;
        });
        step.await
    }

    /// Settings with the limits that users get.
    pub fn settings_as_shipped(&self) -> Settings {
        let mut settings = self.settings();
        settings.connect.limits = Limits::default();
        settings
    }
}

/// What the first Service of a cluster costs, and what the next one does.
pub async fn provision(ports: Value) -> [Step; 2] {
    let many = Many::new(2).await;
    let running = many.play.controller_with("one", many.settings());
    let one = async |number| {
        many.step(async || {
            many.play
                .cluster()
                .create(service(&name(number), ports.clone()))
                .await;
            many.play.ready(&name(number)).await;
        })
        .await
    };
    let steps = [one(0).await, one(1).await];
    running.stop().await;
    steps
}

/// Two of TCP and one of UDP.
pub fn three_ports() -> Value {
    json!([
        {"name": "http", "port": 80, "protocol": "TCP"},
        {"name": "https", "port": 443, "protocol": "TCP"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ])
}
