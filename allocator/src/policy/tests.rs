use std::collections::BTreeSet;

use model::{Labels, ServiceKey, Uid, Use};

use super::*;
use crate::{Admission, Pool, RangeSet};

fn pool(name: &str, ports: &str) -> Pool {
    Pool {
        ports: RangeSet::parse_ports(&[ports.to_owned()]).unwrap(),
        ..Pool::new(name, Use::NodePort)
    }
}

fn enforcing(pool: Pool) -> Pool {
    Pool { enforce: true, ..pool }
}

fn only(namespace: &str, pool: Pool) -> Pool {
    let namespaces = Some(BTreeSet::from([namespace.to_owned()]));
    let admission = Admission { namespaces, ..Admission::default() };
    Pool { admission, ..pool }
}

/// Which pools bind a Service of the namespace `ns`, as `a b`, `-` for none and `free`; then, for
/// each port, `+` or `-` for whether that is allowed.
fn judge(pools: Vec<Pool>, asked: Option<&str>, ports: &[u16]) -> String {
    let mut allocator = Allocator::new();
    allocator.set_pools(pools);
    let (service, uid) = (ServiceKey::new("ns", "s"), Uid::from("s"));
    let request = Request {
        service: &service,
        uid: &uid,
        usage: Use::NodePort,
        namespace_labels: &Labels::new(),
        service_labels: &Labels::new(),
        families: &[],
        require_all: false,
        pool: asked,
        explicit: &[],
        sharing: None,
        allowed_pools: None,
        shown: &[],
        exclude: &[],
        pass_over: None,
        stable_salt: None,
    };
    let binding = allocator.binding(&request);
    let names = match &binding {
        Binding::Free => "free".to_owned(),
        Binding::To(names) if names.is_empty() => "-".to_owned(),
        Binding::To(names) => names.join(" "),
    };
    let verdicts: String = ports
        .iter()
        .map(|port| if allocator.permits(&binding, Number::port(*port)) { '+' } else { '-' })
        .collect();
    format!("{names} {verdicts}")
}

#[test]
fn a_service_is_bound_by_the_pool_it_asks_for_and_by_those_that_enforce() {
    let a = || pool("a", "30000-30009");
    let b = || pool("b", "30010-30019");
    let inside_outside = [30005, 30015, 31000];
    for (pools, asked, expected, why) in [
        (vec![], None, "free +++", "no pool binds nobody"),
        (vec![a()], None, "free +++", "autoAssign binds nobody"),
        (vec![enforcing(a())], None, "a +--", "enforce binds"),
        (vec![enforcing(a()), b()], None, "a +--", "to the enforcing pool alone"),
        (vec![enforcing(a()), enforcing(b())], None, "a b ++-", "or to all that enforce"),
        (vec![enforcing(only("other", a()))], None, "free +++", "if they admit the Service"),
        (vec![a(), b()], Some("b"), "b -+-", "the pool asked for binds"),
        (vec![enforcing(a()), b()], Some("b"), "- ---", "unless another one enforces"),
        (vec![enforcing(a()), enforcing(b())], Some("b"), "b -+-", "of several that enforce the one asked for"),
        (vec![a()], Some("none"), "- ---", "a pool that does not exist allows nothing"),
        (vec![only("other", a())], Some("a"), "- ---", "nor one that does not admit the Service"),
        (
            vec![Pool { excluded_ports: RangeSet::parse_ports(&["30005".to_owned()]).unwrap(), ..enforcing(a()) }],
            None,
            "a ---",
            "what is excluded lies outside",
        ),
        (
            vec![Pool { disabled: true, ..enforcing(a()) }],
            None,
            "a +--",
            "a disabled pool keeps what it has",
        ),
    ] {
        assert_eq!(judge(pools, asked, &inside_outside), expected, "{why}");
    }
}
