//! The snapshot without AWS: whose is what, and what our own writes do to it.

use std::time::{Duration, Instant};

use super::*;
use aws::wanted::Scheme;

const CLUSTER: &str = "blue";

fn tags(cluster: &str, stack: &str) -> Tags {
    let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    [(tags::CLUSTER, cluster), (tags::STACK, stack)]
        .map(pair)
        .into()
}

fn load_balancer(arn: &str, stack: &str) -> seen::LoadBalancer {
    seen::LoadBalancer {
        arn: arn.to_owned(),
        name: arn.to_owned(),
        dns_name: String::new(),
        active: false,
        scheme: Scheme::Internal,
        ip_address_type: IpAddressType::Ipv4,
        subnets: Vec::new(),
        security_groups: BTreeSet::new(),
        enforce_rules_on_private_link: None,
        ipv6_source_nat: false,
        tags: tags(CLUSTER, stack),
        details: None,
    }
}

fn created(arn: &str, stack: &str) -> Change {
    Change::Created(Resource::LoadBalancer(load_balancer(arn, stack)))
}

fn arns(account: &Account, stack: &str) -> Vec<String> {
    let all = account.seen(stack).load_balancers;
    all.into_iter().map(|there| there.arn).collect()
}

#[test]
fn the_traffic_group_is_no_stacks() {
    let mut account = Account::default();
    let group = seen::SecurityGroup {
        id: "sg-1".to_owned(),
        name: "traffic".to_owned(),
        rules: BTreeSet::new(),
        tags: tags(CLUSTER, tags::TRAFFIC),
    };
    account.insert(Resource::SecurityGroup(group), CLUSTER);
    assert!(account.stacks().is_empty());
}

#[test]
fn a_strangers_load_balancer_is_not_put_in() {
    let mut account = Account::default();
    let mut stranger = load_balancer("lb", "a/b");
    stranger.tags = tags("green", "a/b");
    account.insert(Resource::LoadBalancer(stranger), CLUSTER);
    assert_eq!(account, Account::default());
}

#[test]
fn tags_move_a_resource_and_their_loss_takes_it_out() {
    let mut account = Account::default();
    account.note(created("lb", "a/b"), CLUSTER);
    account.note(
        Change::Tagged("lb".to_owned(), tags(CLUSTER, "c/d")),
        CLUSTER,
    );
    assert!(arns(&account, "a/b").is_empty());
    assert_eq!(arns(&account, "c/d"), ["lb"]);
    let keys = BTreeSet::from([tags::CLUSTER.to_owned()]);
    account.note(Change::Untagged("lb".to_owned(), keys), CLUSTER);
    assert!(account.stacks().is_empty());
}

#[test]
fn what_was_made_during_a_listing_is_not_lost_and_what_was_deleted_does_not_come_back() {
    let began = Instant::now();
    let shared = Shared::default();
    let later = began + Duration::from_secs(1);
    let mut listed = Account::default();
    listed.note(created("old", "a/b"), CLUSTER);
    shared.note(created("new", "a/b"), CLUSTER, later);
    shared.note(Change::Gone("old".to_owned()), CLUSTER, later);
    let account = shared.install(listed, HashMap::new(), CLUSTER, began);
    assert_eq!(arns(&account, "a/b"), ["new"]);
}

#[test]
fn a_write_shortly_before_a_listing_counts_and_an_old_one_does_not() {
    let start = Instant::now();
    for (seconds, expected) in [(20, vec!["new".to_owned()]), (60, Vec::new())] {
        let shared = Shared::default();
        shared.note(created("new", "a/b"), CLUSTER, start);
        let began = start + Duration::from_secs(seconds);
        let account = shared.install(Account::default(), HashMap::new(), CLUSTER, began);
        assert_eq!(arns(&account, "a/b"), expected, "{seconds} s");
    }
}

#[test]
fn a_listed_load_balancer_is_newer_than_the_copy_of_its_creation() {
    let began = Instant::now();
    let shared = Shared::default();
    shared.note(created("lb", "a/b"), CLUSTER, began);
    let mut active = load_balancer("lb", "a/b");
    active.active = true;
    let mut listed = Account::default();
    listed.insert(Resource::LoadBalancer(active), CLUSTER);
    let account = shared.install(listed, HashMap::new(), CLUSTER, began);
    assert!(account.seen("a/b").load_balancers[0].active);
}

#[test]
fn a_snapshot_is_as_old_as_the_beginning_of_its_listing() {
    let began = Instant::now();
    let shared = Shared::default();
    assert!(shared.newest().is_none());
    shared.install(Account::default(), HashMap::new(), CLUSTER, began);
    let after = |seconds| began + Duration::from_secs(seconds);
    assert!(shared.fresh(Duration::from_secs(5), after(5)).is_some());
    assert!(shared.fresh(Duration::from_secs(5), after(6)).is_none());
    assert!(shared.newest().is_some());
}

#[test]
fn tags_are_remembered_with_what_we_change_in_them() {
    let now = Instant::now();
    let shared = Shared::default();
    shared.note(created("lb", "a/b"), CLUSTER, now);
    let more = Tags::from([("team".to_owned(), "x".to_owned())]);
    shared.note(Change::Tagged("lb".to_owned(), more), CLUSTER, now);
    let known = shared.known("lb", Duration::ZERO, now).unwrap();
    assert_eq!(known.tags.len(), 3);
    shared.note(Change::Gone("lb".to_owned()), CLUSTER, now);
    assert!(shared.known("lb", Duration::ZERO, now).is_none());
}

#[test]
fn what_is_set_on_a_load_balancer_is_set_in_the_snapshot() {
    let mut account = Account::default();
    account.note(created("lb", "a/b"), CLUSTER);
    let arn = || "lb".to_owned();
    let groups = BTreeSet::from(["sg-1".to_owned()]);
    let subnet = SubnetMapping {
        subnet: "subnet-1".to_owned(),
        ..SubnetMapping::default()
    };
    for change in [
        Change::SecurityGroups(arn(), groups.clone(), Some(false)),
        // What is not said stays.
        Change::SecurityGroups(arn(), groups.clone(), None),
        Change::Subnets(arn(), vec![subnet.clone()], true),
        Change::IpAddressType(arn(), IpAddressType::Dualstack),
        Change::Active(arn()),
        // Nobody's: nothing happens.
        Change::Active("other".to_owned()),
    ] {
        account.note(change, CLUSTER);
    }
    let mut expected = load_balancer("lb", "a/b");
    expected.security_groups = groups;
    expected.enforce_rules_on_private_link = Some(false);
    expected.subnets = vec![subnet];
    expected.ipv6_source_nat = true;
    expected.ip_address_type = IpAddressType::Dualstack;
    expected.active = true;
    assert_eq!(account.seen("a/b").load_balancers, [expected]);
}
