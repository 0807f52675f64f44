//! How fast AWS is asked: token buckets shared by all workers of the process, slowed down by what
//! AWS answers.
//!
//! [`Buckets`] is pure: the time and the jitter are given to it; its driver sleeps. Nothing is sent
//! without a token, retries included.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::call::Operation;

#[cfg(test)]
mod tests;

/// The slowest that throttling makes a bucket: a share of its rate.
const FLOOR: f64 = 1.0 / 16.0;
/// Regained each second without throttling: from half to full in fifty seconds.
const RECOVERY: f64 = 0.01;
/// The shortest pause after a throttling answer.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Size and speed of one bucket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limit {
    /// Calls at once.
    pub burst: u32,
    /// Calls a second.
    pub rate: f64,
}

impl Limit {
    const fn new(burst: u32, rate: f64) -> Self {
        Self { burst, rate }
    }
}

/// Every bucket's limit.
///
/// AWS documents 40 calls at once and 10 a second for all reads of Elastic Load Balancing in an
/// account and region (elb-api-throttling); others use the same account, so ours are lower. EC2
/// documents a bucket for each operation, 50 and more calls at once. The writes are those of AWS
/// Load Balancer Controller (defaults.go) where it has any.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limits {
    /// Reads of load balancers, listeners and target groups.
    pub elb_describe: Limit,
    /// RegisterTargets and DeregisterTargets.
    pub elb_targets: Limit,
    /// Modify*.
    pub elb_modify: Limit,
    /// All other writes of load balancers, listeners and target groups.
    pub elb_write: Limit,
    /// Reads of the VPC and security groups.
    pub ec2_describe: Limit,
    /// Writes of security groups.
    pub ec2_write: Limit,
    /// Calls that only verify what is believed already: these pass this bucket first, so that
    /// looking for drift never starves changes.
    pub verify: Limit,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            elb_describe: Limit::new(30, 8.0),
            elb_targets: Limit::new(20, 4.0),
            elb_modify: Limit::new(20, 3.0),
            elb_write: Limit::new(10, 3.0),
            ec2_describe: Limit::new(50, 10.0),
            ec2_write: Limit::new(10, 2.0),
            verify: Limit::new(5, 1.0),
        }
    }
}

/// Who throttles: each has its own books.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Service {
    /// Elastic Load Balancing v2.
    Elb,
    /// EC2.
    Ec2,
}

/// A bucket's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// [`Limits::elb_describe`].
    ElbDescribe,
    /// [`Limits::elb_targets`].
    ElbTargets,
    /// [`Limits::elb_modify`].
    ElbModify,
    /// [`Limits::elb_write`].
    ElbWrite,
    /// [`Limits::ec2_describe`].
    Ec2Describe,
    /// [`Limits::ec2_write`].
    Ec2Write,
    /// [`Limits::verify`].
    Verify,
}

impl Class {
    /// Who throttles it; nobody but us for the budget of verification.
    const fn service(self) -> Option<Service> {
        match self {
            Self::ElbDescribe | Self::ElbTargets | Self::ElbModify | Self::ElbWrite => {
                Some(Service::Elb)
            }
            Self::Ec2Describe | Self::Ec2Write => Some(Service::Ec2),
            Self::Verify => None,
        }
    }
}

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Somebody waits for it.
    Change,
    /// Nobody does.
    Verify,
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    limit: Limit,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(limit: Limit, now: Instant) -> Self {
        Self {
            limit,
            tokens: f64::from(limit.burst),
            filled: now,
        }
    }

    fn fill(&mut self, factor: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        let burst = f64::from(self.limit.burst).max(1.0);
        self.tokens = (self.tokens + passed * self.limit.rate * factor).min(burst);
        self.filled = self.filled.max(now);
    }
}

/// How one service has answered.
#[derive(Clone, Copy, Debug)]
struct Answers {
    /// Share of the rates in force, as of `since`.
    factor: f64,
    since: Instant,
    /// Nothing is sent before.
    paused_until: Instant,
    /// Throttled so often in a row.
    row: u32,
    /// When the rates were cut last: answers to calls sent before do not cut again.
    cut: Option<Instant>,
}

impl Answers {
    const fn new(now: Instant) -> Self {
        Self {
            factor: 1.0,
            since: now,
            paused_until: now,
            row: 0,
            cut: None,
        }
    }

    fn factor(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        (self.factor + passed * RECOVERY).min(1.0)
    }
}

/// All buckets of a process.
#[derive(Debug)]
pub struct Buckets {
    elb_describe: Bucket,
    elb_targets: Bucket,
    elb_modify: Bucket,
    elb_write: Bucket,
    ec2_describe: Bucket,
    ec2_write: Bucket,
    verify: Bucket,
    elb: Answers,
    ec2: Answers,
}

impl Buckets {
    /// Full ones.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            elb_describe: Bucket::new(limits.elb_describe, now),
            elb_targets: Bucket::new(limits.elb_targets, now),
            elb_modify: Bucket::new(limits.elb_modify, now),
            elb_write: Bucket::new(limits.elb_write, now),
            ec2_describe: Bucket::new(limits.ec2_describe, now),
            ec2_write: Bucket::new(limits.ec2_write, now),
            verify: Bucket::new(limits.verify, now),
            elb: Answers::new(now),
            ec2: Answers::new(now),
        }
    }

    /// Takes a token, or says after how long to ask again.
    pub fn take(&mut self, class: Class, now: Instant) -> Result<(), Duration> {
        let (factor, paused_until) = match class.service() {
            Some(service) => {
                let answers = self.answers(service);
                (answers.factor(now), answers.paused_until)
            }
            None => (1.0, now),
        };
        let bucket = self.bucket(class);
        bucket.fill(factor, now);
        let pause = paused_until.saturating_duration_since(now);
        if !pause.is_zero() {
            return Err(pause);
        }
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        // A bucket without a rate never fills: asked for by nobody, and no reason to spin.
        let rate = (bucket.limit.rate * factor).max(1.0 / 3600.0);
        let missing = (1.0 - bucket.tokens) / rate;
        Err(Duration::from_secs_f64(missing).max(Duration::from_millis(1)))
    }

    /// AWS has throttled a call that was sent at `sent`. `jitter`: 0 up to 1.
    pub fn throttled(&mut self, service: Service, sent: Instant, now: Instant, jitter: f64) {
        let answers = self.answers(service);
        // Workers that were refused together are one piece of news, not many.
        if answers.cut.is_some_and(|cut| sent < cut) {
            return;
        }
        answers.factor = (answers.factor(now) / 2.0).max(FLOOR);
        answers.since = now;
        answers.cut = Some(now);
        let doubled = PAUSE_MIN.saturating_mul(1 << answers.row.min(8));
        answers.row = answers.row.saturating_add(1);
        let pause = doubled.mul_f64(1.0 + jitter.clamp(0.0, 1.0));
        answers.paused_until = now + pause.clamp(PAUSE_MIN, PAUSE_MAX);
        // What AWS refuses has an empty bucket there: ours holds no more.
        for class in [
            Class::ElbDescribe,
            Class::ElbTargets,
            Class::ElbModify,
            Class::ElbWrite,
            Class::Ec2Describe,
            Class::Ec2Write,
        ] {
            if class.service() == Some(service) {
                let bucket = self.bucket(class);
                bucket.tokens = bucket.tokens.min(1.0);
                bucket.filled = now;
            }
        }
    }

    /// AWS has carried out a call that was sent at `sent`.
    pub fn answered(&mut self, service: Service, sent: Instant) {
        let answers = self.answers(service);
        if answers.cut.is_none_or(|cut| sent >= cut) {
            answers.row = answers.row.saturating_sub(1);
        }
    }

    /// Share of the rates that is in force: 1 unless AWS has throttled lately.
    pub fn share(&self, service: Service, now: Instant) -> f64 {
        match service {
            Service::Elb => self.elb.factor(now),
            Service::Ec2 => self.ec2.factor(now),
        }
    }

    fn answers(&mut self, service: Service) -> &mut Answers {
        match service {
            Service::Elb => &mut self.elb,
            Service::Ec2 => &mut self.ec2,
        }
    }

    fn bucket(&mut self, class: Class) -> &mut Bucket {
        match class {
            Class::ElbDescribe => &mut self.elb_describe,
            Class::ElbTargets => &mut self.elb_targets,
            Class::ElbModify => &mut self.elb_modify,
            Class::ElbWrite => &mut self.elb_write,
            Class::Ec2Describe => &mut self.ec2_describe,
            Class::Ec2Write => &mut self.ec2_write,
            Class::Verify => &mut self.verify,
        }
    }
}

/// One queue a class: first come, first served.
#[derive(Debug)]
struct Queues {
    elb_describe: Semaphore,
    elb_targets: Semaphore,
    elb_modify: Semaphore,
    elb_write: Semaphore,
    ec2_describe: Semaphore,
    ec2_write: Semaphore,
    verify: Semaphore,
}

/// [`Buckets`] and the waiting in front of them.
#[derive(Debug)]
pub(super) struct Throttle {
    buckets: Mutex<Buckets>,
    queues: Queues,
}

impl Throttle {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let queue = || Semaphore::new(1);
        Self {
            buckets: Mutex::new(Buckets::new(limits, now)),
            queues: Queues {
                elb_describe: queue(),
                elb_targets: queue(),
                elb_modify: queue(),
                elb_write: queue(),
                ec2_describe: queue(),
                ec2_write: queue(),
                verify: queue(),
            },
        }
    }

    /// Returns when `operation` may be sent. Given up half-way it has taken nothing of the class.
    pub(super) async fn pass(&self, operation: Operation, purpose: Purpose) {
        match purpose {
            Purpose::Verify => self.wait(Class::Verify).await,
            Purpose::Change => {}
        }
        self.wait(operation.class()).await;
    }

    async fn wait(&self, class: Class) {
        let queue = match class {
            Class::ElbDescribe => &self.queues.elb_describe,
            Class::ElbTargets => &self.queues.elb_targets,
            Class::ElbModify => &self.queues.elb_modify,
            Class::ElbWrite => &self.queues.elb_write,
            Class::Ec2Describe => &self.queues.ec2_describe,
            Class::Ec2Write => &self.queues.ec2_write,
            Class::Verify => &self.queues.verify,
        };
        // Whoever is first asks the bucket; the others stand behind. Never closed.
        let _first = queue.acquire().await;
        loop {
            let taken = self.with(|buckets| buckets.take(class, Instant::now()));
            match taken {
                Ok(()) => return,
                Err(after) => tokio::time::sleep(after).await,
            }
        }
    }

    /// A short look under the lock.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Buckets) -> T) -> T {
        look(&mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
