//! A report for people.

use std::fmt::{self, Write as _};

use aws::{
    plan::Effect,
    wanted::{TargetGroup, TargetType, Wanted},
};

use super::report::{Planned, Report};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blocks: Vec<String> = Vec::new();
        let list = |title: &str, items: Vec<String>| {
            let lines = items.iter().map(|item| format!("  * {item}\n"));
            format!("{title}\n{}", lines.collect::<String>())
        };
        if !self.assumed.is_empty() {
            blocks.push(list("ASSUMED", self.assumed.clone()));
        }
        for planned in &self.load_balancers {
            let mut block = String::new();
            load_balancer(planned, &mut block)?;
            blocks.push(block);
        }
        if !self.rejected.is_empty() {
            let each = self.rejected.iter().map(|rejected| {
                format!(
                    "Service {} ({}): {}",
                    rejected.service, rejected.reason, rejected.message
                )
            });
            blocks.push(list("REJECTED", each.collect()));
        }
        if !self.skipped.is_empty() {
            let each = self.skipped.iter();
            let each = each.map(|skipped| format!("Service {}: {}", skipped.service, skipped.why));
            blocks.push(list("NOT PLANNED", each.collect()));
        }
        if blocks.is_empty() {
            blocks.push("There is no Service.\n".to_owned());
        }
        f.write_str(&blocks.join("\n"))
    }
}

fn load_balancer(planned: &Planned, out: &mut String) -> fmt::Result {
    match &planned.wanted {
        Some(wanted) => {
            let plural = if planned.services.len() == 1 { "" } else { "s" };
            write!(
                out,
                "LOAD BALANCER {} for Service{plural} {}",
                wanted.load_balancer.name,
                planned.services.join(", ")
            )?;
            match &planned.class {
                Some(class) => writeln!(out, ", class {class}")?,
                None => writeln!(out)?,
            }
            describe(wanted, planned, out)?;
        }
        None => writeln!(out, "LOAD BALANCER of {} is to go", planned.stack)?,
    }
    if !planned.there.is_empty() {
        writeln!(out, "  There already:")?;
        for arn in &planned.there {
            writeln!(out, "    {arn}")?;
        }
    }
    if !planned.warnings.is_empty() {
        writeln!(out, "  Warnings:")?;
        for warning in &planned.warnings {
            writeln!(out, "    {warning}")?;
        }
    }
    if planned.steps.is_empty() {
        return writeln!(out, "  Steps: none, nothing is to be done");
    }
    writeln!(
        out,
        "  Steps, each with its effect on traffic ({} at worst):",
        planned.effect
    )?;
    for (index, step) in planned.steps.iter().enumerate() {
        let effect = match step.effect {
            Effect::None | Effect::Drain => step.effect.to_string(),
            Effect::Interrupts => "INTERRUPTS".to_owned(),
        };
        writeln!(out, "    {:>2}. {effect:<10} {step}", index + 1)?;
    }
    Ok(())
}

fn describe(wanted: &Wanted, planned: &Planned, out: &mut String) -> fmt::Result {
    let balancer = &wanted.load_balancer;
    write!(
        out,
        "  {}, {}",
        balancer.scheme.as_str(),
        balancer.ip_address_type.as_str()
    )?;
    match &wanted.adopt {
        Some(arn) => writeln!(out, ", adopting {arn}")?,
        None => writeln!(out)?,
    }
    if !balancer.attributes.is_empty() {
        writeln!(out, "  Attributes: {}", pairs(&balancer.attributes))?;
    }
    writeln!(out, "  Subnets:")?;
    for verdict in &planned.subnets {
        let used = if verdict.used { "used    " } else { "not used" };
        let mut addresses = String::new();
        let mapping = balancer.subnets.iter();
        for mapping in mapping.filter(|mapping| mapping.subnet == verdict.subnet) {
            let all = [&mapping.allocation, &mapping.private_ipv4, &mapping.ipv6];
            for address in all.into_iter().flatten() {
                write!(addresses, ", with {address}")?;
            }
        }
        writeln!(
            out,
            "    {used} {} ({}): {}{addresses}",
            verdict.subnet, verdict.zone, verdict.why
        )?;
    }
    writeln!(out, "  Listeners:")?;
    for (port, listener) in &wanted.listeners {
        write!(out, "    {} {port}", listener.protocol.as_str())?;
        if !listener.certificates.is_empty() {
            write!(out, ", {}", listener.certificates.join(", "))?;
        }
        if !listener.attributes.is_empty() {
            write!(out, ", {}", pairs(&listener.attributes))?;
        }
        match wanted.target_groups.get(&listener.target_group) {
            Some(group) => writeln!(out, " -> {}", target_group(group))?,
            None => writeln!(out, " -> {}", listener.target_group)?,
        }
    }
    match &wanted.security_group {
        Some(group) => {
            writeln!(out, "  Security group {}, which lets in:", group.name)?;
            for rule in &group.rules {
                writeln!(out, "    {rule}")?;
            }
            Ok(())
        }
        None if balancer.security_groups.is_empty() => writeln!(out, "  No security groups"),
        None => writeln!(
            out,
            "  Security groups as given: {}",
            balancer.security_groups.join(", ")
        ),
    }
}

/// `target group k8s-…: 2 nodes by TCP port 30080, checked by TCP traffic-port every 10 s`.
fn target_group(group: &TargetGroup) -> String {
    let what = match (group.target_type, group.targets.len()) {
        (TargetType::Instance, 1) => "1 node".to_owned(),
        (TargetType::Instance, count) => format!("{count} nodes"),
        (TargetType::Ip, 1) => "1 pod".to_owned(),
        (TargetType::Ip, count) => format!("{count} pods"),
    };
    let by = match group.target_type {
        TargetType::Instance => format!(" port {}", group.port),
        TargetType::Ip => String::new(),
    };
    let check = &group.health_check;
    let path = check.path.as_deref().unwrap_or_default();
    let mut text = format!(
        "target group {}: {what} by {}{by}, checked by {} {}{path} every {} s",
        group.name,
        group.protocol.as_str(),
        check.protocol.as_str(),
        check.port,
        check.interval
    );
    if !group.attributes.is_empty() {
        text.push_str(", ");
        text.push_str(&pairs(&group.attributes));
    }
    text
}

fn pairs(attributes: &std::collections::BTreeMap<String, String>) -> String {
    let pairs = attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}
