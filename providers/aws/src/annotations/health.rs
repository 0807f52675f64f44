//! What is asked of health checks, within AWS's limits.

use super::{
    HealthCheckRequest, PREFIX,
    values::{Annotations, Source},
};
use crate::{Rejection, wanted::HealthCheckProtocol};

pub(super) fn health_check(all: Annotations<'_>) -> Result<HealthCheckRequest, Rejection> {
    let of = |suffix: &str| all.get(&format!("{PREFIX}healthcheck-{suffix}"));
    let number = |suffix: &str, range| of(suffix).map(|source| source.number(range)).transpose();
    let found = HealthCheckRequest {
        protocol: match of("protocol") {
            None => None,
            Some(source) => Some(match source.text.to_ascii_lowercase().as_str() {
                "tcp" => HealthCheckProtocol::Tcp,
                "http" => HealthCheckProtocol::Http,
                "https" => HealthCheckProtocol::Https,
                _ => {
                    return Err(source.invalid(
                        "is not a protocol of health checks: write \"tcp\", \"http\" or \"https\"",
                    ));
                }
            }),
        },
        port: of("port").and_then(Source::text),
        path: match of("path") {
            Some(source) if !source.text.is_empty() && !source.text.starts_with('/') => {
                return Err(source.invalid("is not a path: write for example \"/healthz\""));
            }
            path => path.and_then(Source::text),
        },
        success_codes: match of("success-codes") {
            Some(source) if !source.text.split(',').all(is_codes) => {
                return Err(source.invalid(
                    "is not a list of HTTP status codes: write for example \"200-399\" or \
                     \"200,204\"",
                ));
            }
            codes => codes.and_then(Source::text),
        },
        interval: number("interval", 5..=300)?,
        timeout: number("timeout", 2..=120)?,
        healthy_threshold: number("healthy-threshold", 2..=10)?,
        unhealthy_threshold: number("unhealthy-threshold", 2..=10)?,
    };
    if let (Some(interval), Some(timeout)) = (found.interval, found.timeout)
        && timeout > interval
    {
        return Err(Rejection::conflict(format!(
            "annotation {PREFIX}healthcheck-timeout is {timeout} s but {PREFIX}healthcheck-interval \
             is {interval} s: a check must end before the next begins, so lower the first or raise \
             the second"
        )));
    }
    Ok(found)
}

/// `200` or `200-399`.
fn is_codes(part: &str) -> bool {
    let code = |text: &str| {
        text.parse::<u16>()
            .is_ok_and(|code| (200..600).contains(&code))
    };
    match part.trim().split_once('-') {
        None => code(part.trim()),
        Some((first, last)) => code(first) && code(last) && first <= last,
    }
}
