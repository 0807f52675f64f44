use model::{Labels, Reason, ServiceKey, TrafficPolicy, Uid};

use super::*;
use crate::{Admission, Operator, Pool, RangeSet, Requirement, Selector, Sharing, Strategy, Terms};

/// A pool of these addresses that admits everybody.
fn pool(name: &str, addresses: &str) -> Pool {
    let set = |text: &str| {
        let entries: Vec<String> = text.split_whitespace().map(ToOwned::to_owned).collect();
        RangeSet::parse_addresses(&entries).unwrap()
    };
    let (v4, v6) = set(addresses);
    Pool {
        v4,
        v6,
        ..Pool::new(name, Use::LoadBalancer)
    }
}

fn ports(name: &str, ranges: &str) -> Pool {
    Pool { usage: Use::NodePort, ports: RangeSet::parse_ports(&[ranges.to_owned()]).unwrap(), ..pool(name, "") }
}

fn only(namespace: &str, pool: Pool) -> Pool {
    let namespaces = Some([namespace.to_owned()].into());
    let admission = Admission { namespaces, ..pool.admission };
    Pool { admission, ..pool }
}

fn set(change: impl FnOnce(&mut Pool), mut pool: Pool) -> Pool {
    change(&mut pool);
    pool
}

fn number(text: &str) -> Number {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => address.into(),
        Err(_) => Number::port(text.parse().unwrap()),
    }
}

fn numbers(text: &str) -> Vec<Number> {
    text.split_whitespace().map(number).collect()
}

fn terms(key: &str, port: &str) -> Sharing {
    let (policy, backend) = (TrafficPolicy::Cluster, "".into());
    Terms { key: key.into(), with: Vec::new(), ports: vec![port.parse().unwrap()], policy, backend }.into()
}

fn world(pools: Vec<Pool>) -> Allocator {
    let mut allocator = Allocator::new();
    allocator.set_pools(pools);
    allocator
}

/// What a Service asks for; its name is its uid, its namespace "ns".
#[derive(Clone)]
struct Ask {
    name: &'static str,
    namespace: &'static str,
    usage: Use,
    families: Vec<Family>,
    require_all: bool,
    pool: Option<&'static str>,
    explicit: &'static str,
    sharing: Option<Sharing>,
    allowed: Option<Vec<String>>,
    shown: &'static str,
    exclude: &'static str,
    labels: Labels,
    salt: Option<&'static str>,
}

fn ask(name: &'static str) -> Ask {
    Ask {
        name,
        namespace: "ns",
        usage: Use::LoadBalancer,
        families: vec![Family::V4],
        require_all: false,
        pool: None,
        explicit: "",
        sharing: None,
        allowed: None,
        shown: "",
        exclude: "",
        labels: Labels::new(),
        salt: None,
    }
}

fn ask_port(name: &'static str) -> Ask {
    Ask { usage: Use::NodePort, families: Vec::new(), ..ask(name) }
}

fn dual(ask: Ask) -> Ask {
    Ask { families: vec![Family::V4, Family::V6], ..ask }
}

impl Ask {
    fn decide(&self, allocator: &Allocator) -> Verdict {
        let (service, uid) = (ServiceKey::new(self.namespace, self.name), Uid::from(self.name));
        let request = Request {
            service: &service,
            uid: &uid,
            usage: self.usage,
            namespace_labels: &Labels::new(),
            service_labels: &self.labels,
            families: &self.families,
            require_all: self.require_all,
            pool: self.pool,
            explicit: &numbers(self.explicit),
            sharing: self.sharing.as_ref(),
            allowed_pools: self.allowed.as_deref(),
            shown: &numbers(self.shown),
            exclude: &numbers(self.exclude),
            pass_over: None,
            stable_salt: self.salt,
        };
        allocator.decide(&request, 1_000)
    }

    /// Decides and holds what is granted.
    fn settle(&self, allocator: &mut Allocator) -> Verdict {
        let verdict = self.decide(allocator);
        for grant in &verdict.grants {
            self.hold(allocator, grant.number);
        }
        for number in &verdict.surplus {
            allocator.unhold(*number, &self.name.into(), self.usage);
        }
        verdict
    }

    fn hold(&self, allocator: &mut Allocator, number: Number) {
        let holder = Holder {
            service: ServiceKey::new(self.namespace, self.name),
            uid: self.name.into(),
            usage: self.usage,
            at: "1".into(),
            sharing: self.sharing.clone(),
        };
        allocator.hold(number, holder);
    }
}

/// "10.0.0.1 | IPv6 PoolExhausted | surplus".
fn told(verdict: &Verdict) -> String {
    let grants: Vec<String> = verdict.grants.iter().map(|grant| grant.number.to_string()).collect();
    let missing: Vec<String> = verdict.missing.iter().map(|missing| missing.reason.to_string()).collect();
    let surplus: Vec<String> = verdict.surplus.iter().map(ToString::to_string).collect();
    [grants, missing, surplus].map(|part| part.join(" ")).join("|")
}

fn message(verdict: &Verdict) -> &str {
    &verdict.missing[0].message
}

mod held;
mod select;
