//! What moto as we extend it does like real AWS, and what the proxy does to a call. A sentence per
//! extension; each has an AWS of its own.
#![cfg(test)]

mod balancers;
mod faults;
mod groups;
mod harness;
mod lab;
mod listeners;
mod quotas;
mod sdk;
mod security_groups;
mod tags;
mod targets;

/// Gives each sentence what all have in common.
#[macro_export]
macro_rules! sentences {
    ($($(#[$doc:meta])* async fn $name:ident() $body:block)*) => { $(
        $(#[$doc])*
        #[tokio::test]
        #[ignore = "moto: needs Python and PyPI"]
        async fn $name() $body
    )* };
}
