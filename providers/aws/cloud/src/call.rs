//! The one way to AWS: every call takes its tokens, is sent, is classified and is counted here.
//!
//! What AWS has certainly not carried out (throttling), and reads that nobody answered, are sent
//! again, each time with a new token. A write that nobody answered is not: it may have happened,
//! and the next plan sees whether it has.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::{
    Cloud,
    throttle::{Class, Service},
};

pub use error::{Error, Outcome};

mod error;
#[cfg(test)]
mod tests;

/// A call is sent at most so often.
const ATTEMPTS: u32 = 4;

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident: $class:ident,)*) => {
        /// Everything that is ever asked of AWS; the name is the API's.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Operation {
            $(#[doc = concat!("`", stringify!($name), "`")] $name,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As the API has it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Its bucket.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class,)* }
            }
        }
    };
}

operations! {
    DescribeLoadBalancers: ElbDescribe,
    DescribeTargetGroups: ElbDescribe,
    DescribeTags: ElbDescribe,
    DescribeListeners: ElbDescribe,
    DescribeListenerCertificates: ElbDescribe,
    DescribeListenerAttributes: ElbDescribe,
    DescribeLoadBalancerAttributes: ElbDescribe,
    DescribeTargetGroupAttributes: ElbDescribe,
    DescribeTargetHealth: ElbDescribe,
    RegisterTargets: ElbTargets,
    DeregisterTargets: ElbTargets,
    ModifyTargetGroup: ElbModify,
    ModifyTargetGroupAttributes: ElbModify,
    ModifyLoadBalancerAttributes: ElbModify,
    ModifyListener: ElbModify,
    ModifyListenerAttributes: ElbModify,
    CreateLoadBalancer: ElbWrite,
    CreateTargetGroup: ElbWrite,
    CreateListener: ElbWrite,
    DeleteLoadBalancer: ElbWrite,
    DeleteTargetGroup: ElbWrite,
    DeleteListener: ElbWrite,
    SetSubnets: ElbWrite,
    SetSecurityGroups: ElbWrite,
    SetIpAddressType: ElbWrite,
    AddListenerCertificates: ElbWrite,
    RemoveListenerCertificates: ElbWrite,
    AddTags: ElbWrite,
    RemoveTags: ElbWrite,
    DescribeVpcs: Ec2Describe,
    DescribeSubnets: Ec2Describe,
    DescribeRouteTables: Ec2Describe,
    DescribeSecurityGroups: Ec2Describe,
    CreateSecurityGroup: Ec2Write,
    AuthorizeSecurityGroupIngress: Ec2Write,
    RevokeSecurityGroupIngress: Ec2Write,
    DeleteSecurityGroup: Ec2Write,
    CreateTags: Ec2Write,
    DeleteTags: Ec2Write,
}

impl Operation {
    /// Who carries it out.
    #[must_use]
    pub const fn service(self) -> Service {
        match self.class() {
            Class::ElbDescribe | Class::ElbTargets | Class::ElbModify | Class::ElbWrite => {
                Service::Elb
            }
            Class::Ec2Describe | Class::Ec2Write | Class::Verify => Service::Ec2,
        }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn reads(self) -> bool {
        match self.class() {
            Class::ElbDescribe | Class::Ec2Describe => true,
            Class::ElbTargets
            | Class::ElbModify
            | Class::ElbWrite
            | Class::Ec2Write
            | Class::Verify => false,
        }
    }

    /// The IAM action that allows it.
    #[must_use]
    pub fn action(self) -> String {
        let service = match self.service() {
            Service::Elb => "elasticloadbalancing",
            Service::Ec2 => "ec2",
        };
        format!("{service}:{}", self.name())
    }
}

/// How many calls had which outcome since the process began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Calls {
    /// Every attempt counts.
    pub counts: BTreeMap<(Operation, Outcome), u64>,
}

impl Calls {
    /// All attempts of one operation.
    #[must_use]
    pub fn of(&self, operation: Operation) -> u64 {
        let of = |((counted, _), count): (&(Operation, Outcome), &u64)| {
            (*counted == operation).then_some(*count)
        };
        self.counts.iter().filter_map(of).sum()
    }

    /// All attempts that change something.
    #[must_use]
    pub fn writes(&self) -> u64 {
        let write = |((counted, _), count): (&(Operation, Outcome), &u64)| {
            (!counted.reads()).then_some(*count)
        };
        self.counts.iter().filter_map(write).sum()
    }

    /// All attempts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// The counters behind [`Calls`].
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<Calls>);

impl Counters {
    fn count(&self, operation: Operation, outcome: Outcome) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = calls.counts.entry((operation, outcome)).or_default();
        *count = count.saturating_add(1);
    }

    pub(super) fn snapshot(&self) -> Calls {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Cloud {
    /// Sends what `send` makes, once a token is there; again when that is harmless.
    pub(super) async fn call<T, E, F>(
        &self,
        operation: Operation,
        send: impl Fn() -> F,
    ) -> Result<T, Error>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.inner.throttle.pass(operation, self.purpose).await;
            let sent = Instant::now();
            // The client ends it after its own time-out. Boxed: the SDK's futures are large.
            let answer = Box::pin(send()).await;
            let error = match answer {
                Ok(output) => {
                    self.inner.counters.count(operation, Outcome::Ok);
                    self.inner
                        .throttle
                        .with(|buckets| buckets.answered(operation.service(), sent));
                    tracing::debug!(
                        operation = operation.name(),
                        milliseconds = sent.elapsed().as_millis(),
                        "AWS has answered"
                    );
                    return Ok(output);
                }
                Err(error) => Error::of(operation, &error),
            };
            self.inner.counters.count(operation, error.outcome());
            tracing::debug!(operation = operation.name(), attempt, %error, "AWS has refused");
            if error.outcome() == Outcome::Throttled {
                let jitter = fastrand::f64();
                self.inner.throttle.with(|buckets| {
                    buckets.throttled(operation.service(), sent, Instant::now(), jitter);
                });
            }
            if attempt >= ATTEMPTS || !error.harmless_again(operation) {
                return Err(error);
            }
        }
    }
}
