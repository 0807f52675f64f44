//! Steps in words, for people: one line each.

use std::fmt;

use super::{Action, Effect, Forward, Ref, Step, Wait};
use crate::{
    listed,
    wanted::{Listener, Rule, Source, Target, TargetType},
};

/// So many of a list are shown.
const SHOWN: usize = 6;

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Drain => "drain",
            Self::Interrupts => "interrupts",
        })
    }
}

impl fmt::Display for Ref {
    /// The name in an ARN; an id, or the key of what is made, as it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::There(arn) => short(arn),
            Self::Made(key) => key,
        };
        f.write_str(text)
    }
}

/// `arn:…:loadbalancer/net/NAME/ID`, `arn:…:targetgroup/NAME/ID`, `arn:…:listener/net/NAME/ID/ID`.
fn short(arn: &str) -> &str {
    let Some((_, resource)) = arn.rsplit_once(':') else {
        return arn;
    };
    let mut parts = resource.split('/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("loadbalancer" | "listener"), Some(_), Some(name)) => name,
        (Some("targetgroup"), Some(name), Some(_)) => name,
        _ => arn,
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4(text)
            | Self::Ipv6(text)
            | Self::PrefixList(text)
            | Self::SecurityGroup(text) => text,
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            from,
            to,
            source,
        } = self;
        if protocol.starts_with("icmp") {
            write!(f, "{protocol} type {from} code {to} from {source}")
        } else if from == to {
            write!(f, "{protocol} {from} from {source}")
        } else {
            write!(f, "{protocol} {from}-{to} from {source}")
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active { load_balancer } => {
                write!(f, "load balancer {load_balancer} is active")
            }
            Self::Healthy { target_group } => {
                write!(f, "target group {target_group} has a healthy target")
            }
            Self::Drained { target_group } => {
                write!(f, "the targets of target group {target_group} have drained")
            }
            Self::Forgotten { load_balancer } => {
                write!(
                    f,
                    "clients have forgotten the name of load balancer {load_balancer}"
                )
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.action.fmt(f)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateSecurityGroup { vpc, group } => {
                write!(f, "create security group {} in {vpc}", group.name)
            }
            Self::AuthorizeSecurityGroupIngress { group, rules } => {
                write!(f, "let {} into security group {group}", all(rules))
            }
            Self::RevokeSecurityGroupIngress { group, rules } => {
                write!(
                    f,
                    "no longer let {} into security group {group}",
                    all(rules)
                )
            }
            Self::DeleteSecurityGroup { group } => write!(f, "delete security group {group}"),
            Self::CreateTargetGroup { key, target_group } => {
                let kind = match target_group.target_type {
                    TargetType::Instance => "nodes",
                    TargetType::Ip => "pods",
                };
                write!(
                    f,
                    "create target group {} for {key}: {kind} by {} port {}",
                    target_group.name,
                    target_group.protocol.as_str(),
                    target_group.port
                )
            }
            Self::ModifyTargetGroup {
                target_group,
                health_check,
            } => write!(
                f,
                "check the targets of target group {target_group} by {} port {} every {} s",
                health_check.protocol.as_str(),
                health_check.port,
                health_check.interval
            ),
            Self::ModifyTargetGroupAttributes {
                target_group,
                attributes,
            } => write!(
                f,
                "set {} of target group {target_group}",
                pairs(attributes)
            ),
            Self::RegisterTargets {
                target_group,
                targets,
            } => write!(
                f,
                "register {} in target group {target_group}",
                count(targets.iter())
            ),
            Self::DeregisterTargets {
                target_group,
                targets,
            } => write!(
                f,
                "deregister {} from target group {target_group}",
                count(targets.iter())
            ),
            Self::DeleteTargetGroup { target_group } => {
                write!(f, "delete target group {target_group}")
            }
            Self::CreateLoadBalancer {
                load_balancer,
                managed,
                ..
            } => {
                let subnets = load_balancer.subnets.iter();
                let subnets = subnets.map(|mapping| mapping.subnet.as_str());
                write!(
                    f,
                    "create load balancer {} ({}) in {}",
                    load_balancer.name,
                    load_balancer.scheme.as_str(),
                    listed(subnets, SHOWN)
                )?;
                let given = load_balancer.security_groups.iter().cloned();
                let groups = given.chain(managed.iter().map(Ref::to_string));
                match groups.collect::<Vec<_>>().as_slice() {
                    [] => f.write_str(" without security groups"),
                    groups => write!(f, " with security group {}", groups.join(", ")),
                }
            }
            Self::SetSubnets {
                load_balancer,
                subnets,
                ..
            } => {
                let subnets = subnets.iter().map(|mapping| mapping.subnet.as_str());
                let subnets = listed(subnets, SHOWN);
                write!(f, "put load balancer {load_balancer} into {subnets}")
            }
            Self::SetSecurityGroups {
                load_balancer,
                groups,
                ..
            } => write!(
                f,
                "give load balancer {load_balancer} security group {}",
                all(groups)
            ),
            Self::SetIpAddressType {
                load_balancer,
                ip_address_type,
            } => write!(
                f,
                "make load balancer {load_balancer} {}",
                ip_address_type.as_str()
            ),
            Self::ModifyLoadBalancerAttributes {
                load_balancer,
                attributes,
            } => write!(
                f,
                "set {} of load balancer {load_balancer}",
                pairs(attributes)
            ),
            Self::DeleteLoadBalancer { load_balancer } => {
                write!(f, "delete load balancer {load_balancer}")
            }
            Self::CreateListener {
                load_balancer,
                port,
                listener,
                forward,
                ..
            } => write!(
                f,
                "create listener {} of load balancer {load_balancer}, forwarding to {}",
                called(listener, *port),
                forwarding(forward)
            ),
            Self::ModifyListener {
                arn,
                port,
                listener,
                forward,
            } => write!(
                f,
                "make listener {} of load balancer {} forward to {}",
                called(listener, *port),
                short(arn),
                forwarding(forward)
            ),
            Self::ModifyListenerAttributes {
                listener,
                attributes,
            } => write!(f, "set {} of {}", pairs(attributes), of(listener)),
            Self::AddListenerCertificates {
                listener,
                certificates,
            } => write!(f, "add {} to {}", all(certificates), of(listener)),
            Self::RemoveListenerCertificates {
                listener,
                certificates,
            } => write!(f, "remove {} from {}", all(certificates), of(listener)),
            Self::DeleteListener { arn, port } => {
                write!(f, "delete listener {port} of load balancer {}", short(arn))
            }
            Self::AddTags { resources, tags } => {
                let keys = tags.keys().map(String::as_str);
                write!(f, "tag {} with {}", all(resources), listed(keys, SHOWN))
            }
            Self::RemoveTags { resources, keys } => {
                write!(f, "take tag {} off {}", all(keys), all(resources))
            }
            Self::Wait { until } => write!(f, "wait until {until}"),
        }
    }
}

fn all<T: fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = things.into_iter().map(|thing| thing.to_string()).collect();
    listed(words.iter().map(String::as_str), SHOWN)
}

fn pairs(attributes: &std::collections::BTreeMap<String, String>) -> String {
    all(attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}")))
}

/// `2 targets (i-1, i-2)`.
fn count<'a>(targets: impl ExactSizeIterator<Item = &'a Target>) -> String {
    let number = targets.len();
    let names = listed(targets.map(|target| target.id.as_str()), SHOWN);
    match number {
        1 => format!("1 target ({names})"),
        more => format!("{more} targets ({names})"),
    }
}

fn called(listener: &Listener, port: u16) -> String {
    format!("{} {port}", listener.protocol.as_str())
}

fn forwarding(forward: &[Forward]) -> String {
    match forward {
        [only] => only.target_group.to_string(),
        several => all(several
            .iter()
            .map(|to| format!("{} (weight {})", to.target_group, to.weight))),
    }
}

/// A listener by itself: its port, or its load balancer where only its ARN is known.
fn of(listener: &Ref) -> String {
    match listener {
        Ref::There(arn) => format!("a listener of load balancer {}", short(arn)),
        Ref::Made(port) => format!("listener {port}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_arn_is_shown_by_the_name_in_it() {
        let base = "arn:aws:elasticloadbalancing:eu-central-1:1:";
        let rows = [
            (format!("{base}loadbalancer/net/web/50dc"), "web"),
            (format!("{base}targetgroup/tg/50dc"), "tg"),
            (format!("{base}listener/net/web/50dc/1234"), "web"),
            ("sg-1".to_owned(), "sg-1"),
        ];
        for (arn, name) in rows {
            assert_eq!(Ref::There(arn).to_string(), name);
        }
    }

    #[test]
    fn a_step_is_one_line() {
        let there = |name: &str| Ref::There(name.to_owned());
        let target = |id: &str| Target {
            id: id.to_owned(),
            port: 80,
            zone: None,
        };
        let rule = |from, to, source: &str| Rule {
            protocol: "tcp",
            from,
            to,
            source: Source::Ipv4(source.to_owned()),
        };
        let rows = [
            (
                Action::RegisterTargets {
                    target_group: there("tg"),
                    targets: (0..8).map(|n| target(&format!("i-{n}"))).collect(),
                },
                "register 8 targets (i-0, i-1, i-2, i-3, i-4, i-5 and 2 more) in target group tg",
            ),
            (
                Action::AuthorizeSecurityGroupIngress {
                    group: there("sg-1"),
                    rules: BTreeSet::from([rule(80, 80, "10.0.0.0/8"), rule(90, 91, "0.0.0.0/0")]),
                },
                "let tcp 80 from 10.0.0.0/8, tcp 90-91 from 0.0.0.0/0 into security group sg-1",
            ),
            (
                Action::Wait {
                    until: Wait::Forgotten {
                        load_balancer: there("old"),
                    },
                },
                "wait until clients have forgotten the name of load balancer old",
            ),
        ];
        for (action, words) in rows {
            assert_eq!(action.to_string(), words);
        }
    }
}
