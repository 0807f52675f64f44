//! What Services are told, in words.

use aws::{
    plan::{Plan, Ref, Wait},
    seen::Seen,
    wanted::Wanted,
};
use aws_cloud::Error;
use model::Reason;

use crate::core::cloud::{State, Told};

/// AWS refused something, or did not answer.
pub(super) fn failed(error: &Error, leaving: bool) -> Told {
    let (reason, again) = match error {
        Error::Denied { .. } | Error::Credentials { .. } => (Reason::AccessDenied, true),
        Error::Quota { .. } => (Reason::QuotaExceeded, true),
        Error::InUse { .. } | Error::Dependency { .. } if leaving => {
            (Reason::DeletionBlocked, true)
        }
        Error::Invalid { .. } => (Reason::ProviderError, false),
        Error::InUse { .. }
        | Error::Dependency { .. }
        | Error::Throttled { .. }
        | Error::NotFound { .. }
        | Error::Duplicate { .. }
        | Error::Unavailable { .. } => (Reason::ProviderError, true),
    };
    Told {
        state: State::Waiting,
        reason,
        message: match again {
            true => format!("{error}; it is tried again"),
            false => error.to_string(),
        },
    }
}

/// Whether Services are told of it after so many failures before: of what passes by itself only when it
/// does not, since what is there goes on serving.
pub(super) fn is_told(error: &Error, failures: u32) -> bool {
    match error {
        Error::Throttled { .. } | Error::Unavailable { .. } => failures >= PATIENCE,
        Error::Denied { .. }
        | Error::Credentials { .. }
        | Error::Quota { .. }
        | Error::InUse { .. }
        | Error::Dependency { .. }
        | Error::NotFound { .. }
        | Error::Duplicate { .. }
        | Error::Invalid { .. } => true,
    }
}

/// The third failure in a row is told: after 2 to 3 seconds.
const PATIENCE: u32 = 2;

/// Nothing of a Service is left.
pub(super) fn gone() -> Told {
    Told {
        state: State::Gone,
        reason: Reason::Ready,
        message: "nothing of it is left".to_owned(),
    }
}

/// `k8s-shop-web-0123456789: TCP 80, TLS 443`, and what a user should know.
pub(super) fn ready(name: &str, wanted: &Wanted, warnings: &[&str]) -> String {
    let listeners = wanted.listeners.iter();
    let listeners: Vec<String> = listeners
        .map(|(port, listener)| format!("{} {port}", listener.protocol.as_str()))
        .collect();
    let mut text = format!("{name}: {}", listeners.join(", "));
    for warning in warnings {
        text.push_str("; ");
        text.push_str(warning);
    }
    text
}

/// What a plan waits for, in words.
pub(super) fn waits<'a>(waits: impl IntoIterator<Item = &'a Wait>, seen: &Seen) -> String {
    let name = |at: &Ref| match at {
        Ref::There(arn) => {
            let load_balancers = seen.load_balancers.iter();
            let load_balancers = load_balancers.map(|there| (&there.arn, &there.name));
            let groups = seen.target_groups.iter();
            let groups = groups.map(|group| (&group.arn, &group.name));
            let mut names = load_balancers.chain(groups);
            names
                .find(|(known, _)| *known == arn)
                .map_or_else(|| short(arn), |(_, name)| name.clone())
        }
        Ref::Made(key) => key.clone(),
    };
    let words: Vec<String> = waits
        .into_iter()
        .map(|wait| match wait {
            Wait::Active { load_balancer } => {
                format!("load balancer {} to become active", name(load_balancer))
            }
            Wait::Healthy { target_group } => {
                format!("a healthy target in {}", name(target_group))
            }
            Wait::Drained { target_group } => {
                format!("the targets of {} to drain", name(target_group))
            }
            Wait::Forgotten { load_balancer } => {
                format!("clients to forget the name of {}", name(load_balancer))
            }
        })
        .collect();
    format!("waits for {}", words.join(", "))
}

/// `arn:…:loadbalancer/net/NAME/ID` has the name last but one.
fn short(arn: &str) -> String {
    arn.rsplit('/').nth(1).unwrap_or(arn).to_owned()
}

/// What is logged of a plan that touches traffic.
pub(super) fn log(stack: &str, plan: &Plan) {
    for step in &plan.steps {
        match step.effect {
            aws::plan::Effect::None => {
                tracing::debug!(stack, action = ?step.action, "changing a load balancer");
            }
            aws::plan::Effect::Drain | aws::plan::Effect::Interrupts => {
                tracing::info!(stack, effect = ?step.effect, action = ?step.action, "changing a load balancer");
            }
        }
    }
}
