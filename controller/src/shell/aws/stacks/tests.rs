#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::sync::Arc;

use aws::{
    input::{Class, Service},
    plan::Ref,
    wanted::{Scheme, TargetType},
};
use model::Uid;

use super::*;
use crate::core::cloud::{Request, Wanted};

const NOW: Duration = Duration::from_secs(1000);

fn class() -> Arc<Class> {
    Arc::new(Class {
        name: "nlb".to_owned(),
        region: None,
        cluster: "test".to_owned(),
        scheme: Scheme::Internal,
        target_type: TargetType::Ip,
        annotations: BTreeMap::new(),
        tags: BTreeMap::new(),
        node_security_groups: vec![],
        max_targets: None,
        security_group_rules: 60,
        adoptable: BTreeSet::new(),
        groups_across_namespaces: false,
    })
}

/// `web`, or `web@edge` in a group, or `web!` that wants nothing any longer.
fn order(number: u64, text: &str) -> Order {
    let gone = text.ends_with('!');
    let text = text.trim_end_matches('!');
    let (name, group) = text
        .split_once('@')
        .map_or((text, None), |(a, b)| (a, Some(b)));
    let key = ServiceKey::new("shop", name);
    let annotations = group.map(|group| (aws::annotations::GROUP.to_owned(), group.to_owned()));
    let service = Service {
        key: key.clone(),
        uid: Uid::from(name),
        annotations: annotations.into_iter().collect(),
        ports: vec![],
        source_ranges: vec![],
        local: false,
        health_check_node_port: 0,
        families: vec![],
    };
    Order {
        number,
        epoch: 1,
        request: Arc::new(Request {
            key,
            uid: Uid::from(name),
            created: i64::try_from(number).unwrap(),
            wanted: (!gone).then(|| Wanted { class: class() }),
            service: Arc::new(service),
            shown: None,
        }),
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("shop", name)
}

fn take(stacks: &mut Stacks, number: u64, text: &str, found: &[&str]) {
    let found = found.iter().map(|stack| (*stack).to_owned()).collect();
    assert!(stacks.take(order(number, text), found, NOW).is_none());
}

/// `web mail, leaving: old`
fn names(job: &Job) -> String {
    let of = |orders: &[Order]| {
        let names: Vec<&str> = orders
            .iter()
            .map(|order| &*order.request.key.name)
            .collect();
        names.join(" ")
    };
    format!("{}, leaving: {}", of(&job.members), of(&job.leaving))
}

#[test]
fn two_passes_never_run_over_one_load_balancer() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web", &[]);
    let job = stacks.next(NOW).unwrap();
    assert_eq!(job.stack, "shop/web");
    take(&mut stacks, 2, "web", &[]);
    assert!(stacks.next(NOW).is_none() && stacks.verify().is_none());
    stacks.done(&job, None, vec![], true, NOW);
    let again = stacks.next(NOW).unwrap();
    assert_eq!(again.members[0].number, 2, "the newest order counts");
    stacks.done(&again, None, vec![], true, NOW);
    assert!(stacks.next(NOW).is_none());
    assert_eq!(stacks.verify().unwrap().stack, "shop/web");
}

#[test]
fn a_group_is_one_load_balancer_and_the_oldest_comes_first() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 2, "mail@edge", &[]);
    take(&mut stacks, 1, "web@edge", &[]);
    let job = stacks.next(NOW).unwrap();
    assert_eq!(job.stack, "shop/group:edge");
    assert_eq!(names(&job), "web mail, leaving: ");
    assert!(stacks.next(NOW).is_none());
}

#[test]
fn who_wants_nothing_leaves_from_wherever_the_account_has_something_of_it() {
    let mut stacks = Stacks::default();
    // Another process had put it into a group; its annotations say nothing of that any longer.
    take(&mut stacks, 1, "web!", &["shop/group:edge", "shop/web"]);
    let one = stacks.next(NOW).unwrap();
    let two = stacks.next(NOW).unwrap();
    assert_eq!(names(&one), ", leaving: web");
    assert!(
        stacks.done(&one, None, vec![], true, NOW).is_empty(),
        "something is left"
    );
    assert_eq!(
        stacks.done(&two, None, vec![], true, NOW),
        BTreeSet::from([key("web")])
    );
    assert!(stacks.next_due().is_none());
}

#[test]
fn of_whom_the_account_has_nothing_its_own_stack_is_asked() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web!", &[]);
    let job = stacks.next(NOW).unwrap();
    assert_eq!(job.stack, "shop/web");
    assert_eq!(stacks.done(&job, None, vec![], true, NOW).len(), 1);
}

#[test]
fn who_moves_keeps_the_old_load_balancer_until_the_new_one_has_served_for_a_while() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web", &[]);
    let job = stacks.next(NOW).unwrap();
    stacks.done(&job, None, vec![], true, NOW);
    take(&mut stacks, 2, "web@edge", &[]);
    let new = stacks.next(NOW).unwrap();
    assert_eq!(new.stack, "shop/group:edge");
    assert!(stacks.next(NOW).is_none(), "the old one stays");
    stacks.served(&key("web"), NOW);
    stacks.done(&new, None, vec![], true, NOW);
    let grace = Duration::from_secs(DNS_GRACE.unsigned_abs());
    assert!(stacks.next(NOW + grace - Duration::from_secs(1)).is_none());
    let old = stacks.next(NOW + grace).unwrap();
    assert_eq!(
        format!("{}: {}", old.stack, names(&old)),
        "shop/web: , leaving: web"
    );
    // It is served elsewhere: nobody is gone.
    assert!(stacks.done(&old, None, vec![], true, NOW).is_empty());
}

#[test]
fn who_leaves_a_group_that_others_want_leaves_at_once() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web@edge", &[]);
    take(&mut stacks, 2, "mail@edge", &[]);
    let job = stacks.next(NOW).unwrap();
    stacks.done(&job, None, vec![], true, NOW);
    take(&mut stacks, 3, "mail", &[]);
    let mut jobs = [stacks.next(NOW).unwrap(), stacks.next(NOW).unwrap()];
    jobs.sort_by(|a, b| a.stack.cmp(&b.stack));
    assert_eq!(names(&jobs[0]), "web, leaving: mail");
    assert_eq!(names(&jobs[1]), "mail, leaving: ");
}

#[test]
fn a_group_that_cannot_be_read_changes_nothing() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web", &[]);
    let job = stacks.next(NOW).unwrap();
    stacks.done(&job, None, vec![], true, NOW);
    let wrong = order(2, "web@not a name!");
    let wrong = Order {
        request: Arc::new(Request {
            wanted: Some(Wanted { class: class() }),
            ..Request::clone(&wrong.request)
        }),
        ..wrong
    };
    let rejection = stacks.take(wrong, BTreeSet::new(), NOW).unwrap();
    assert!(
        rejection.message.contains(aws::annotations::GROUP),
        "{}",
        rejection.message
    );
    let job = stacks.next(NOW).unwrap();
    assert_eq!(
        format!("{}: {}", job.stack, names(&job)),
        "shop/web: web, leaving: "
    );
}

#[test]
fn a_failure_waits_longer_each_time_and_what_changes_does_not_hurry_it() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web", &[]);
    let mut now = NOW;
    let mut pauses = vec![];
    for _ in 0..12 {
        let job = stacks.next(now).unwrap();
        let pause = stacks.failed(&job, 1.0, now);
        assert!(stacks.next(now).is_none());
        now += pause;
        pauses.push(pause.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    assert_eq!(stacks.next(now).unwrap().failures, 12);
}

#[test]
fn what_a_pass_waits_for_is_forgotten_when_something_changes() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web", &[]);
    let wait = Wait::Active {
        load_balancer: Ref::There("arn".to_owned()),
    };
    let soon = Duration::from_secs(10);
    let job = stacks.next(NOW).unwrap();
    stacks.done(&job, Some(soon), vec![wait.clone()], false, NOW);
    let job = stacks.next(NOW + soon).unwrap();
    assert_eq!(job.waits, [wait]);
    stacks.still(&job, soon, NOW + soon);
    stacks.mark_service(&key("web"), NOW + soon);
    assert!(stacks.next(NOW + soon).unwrap().waits.is_empty());
}

#[test]
fn another_term_of_leadership_forgets_everything() {
    let mut stacks = Stacks::default();
    take(&mut stacks, 1, "web", &[]);
    let running = stacks.next(NOW).unwrap();
    let later = Order {
        epoch: 2,
        ..order(2, "mail")
    };
    assert!(stacks.take(later, BTreeSet::new(), NOW).is_none());
    stacks.done(&running, None, vec![], true, NOW);
    assert_eq!(stacks.next(NOW).unwrap().stack, "shop/mail");
    assert!(stacks.next(NOW).is_none());
    take(&mut stacks, 3, "web", &[]);
    assert!(stacks.next(NOW).is_none(), "of an older term");
}

#[test]
fn the_rotation_looks_at_one_after_the_other() {
    let mut stacks = Stacks::default();
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        take(&mut stacks, u64::try_from(number).unwrap(), name, &[]);
        let job = stacks.next(NOW).unwrap();
        stacks.done(&job, None, vec![], true, NOW);
    }
    let looked: Vec<String> = (0..4)
        .map(|_| {
            let job = stacks.verify().unwrap();
            stacks.done(&job, None, vec![], true, NOW);
            job.stack
        })
        .collect();
    assert_eq!(looked, ["shop/a", "shop/b", "shop/c", "shop/a"]);
}
