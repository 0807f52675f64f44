//! What is written and told, when, and what is not.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Service `web` is announced, and node `b` says that it answers.
fn served() -> World {
    let mut world = lan(&[wish("web", &["192.0.2.1"], false)]);
    world.slice("web", &[("a", "ready")]);
    world.says("b", Some(said(&[("192.0.2.1", 1)])));
    world.settle();
    assert_eq!(
        world.wrote(),
        ["speaker a", "speaker b", "announcement 192.0.2.1"]
    );
    let told = ["web Ready: 192.0.2.1 announced from node b on eth0"];
    assert_eq!(world.told(), told);
    world
}

#[test]
fn a_second_look_at_everything_writes_and_tells_nothing() {
    let mut world = served();
    world.node("a", Some(plain("a", "10.0.0.1")));
    world.slice("web", &[("a", "ready")]);
    world.says("b", Some(said(&[("192.0.2.1", 1)])));
    world.hear(Word::Policies(policies(&["lan"])));
    world.wishes(wish("web", &["192.0.2.1"], false));
    world.go(Duration::from_secs(3600));
    assert_eq!(world.wrote(), [""; 0]);
    assert_eq!(world.told(), [""; 0]);
    assert!(world.announcer.is_idle());
}

#[test]
fn nothing_is_written_before_everything_is_known() {
    let kinds = [
        Kind::Node,
        Kind::Slice,
        Kind::Announcement,
        Kind::Speaker,
        Kind::Status,
    ];
    for last in kinds {
        let mut world = World::blind();
        for kind in kinds.into_iter().filter(|kind| *kind != last) {
            world.see(Seen::Restarted(kind));
            world.see(Seen::Synced(kind));
        }
        world.hear(Word::All(
            policies(&["lan"]),
            vec![wish("web", &["192.0.2.1"], false)],
        ));
        world.settle();
        assert_eq!(world.wrote(), [""; 0], "{last:?}");
        world.see(Seen::Restarted(last));
        world.see(Seen::Synced(last));
        world.settle();
        assert_eq!(world.wrote(), ["announcement 192.0.2.1"], "{last:?}");
    }
    let mut world = World::new();
    let old = AnnouncementSpec::default();
    let old = found(&"1".into(), &old, None);
    world.see(Seen::Announcement("192.0.2.9".into(), Some(old)));
    world.settle();
    assert_eq!(world.wrote(), [""; 0], "the engine has not spoken");
}

#[test]
fn a_restart_finds_what_is_there_and_leaves_it() {
    let old = served();
    let mut world = World::blind();
    world.hear(Word::All(
        policies(&["lan"]),
        vec![wish("web", &["192.0.2.1"], false)],
    ));
    let spec = &old.announcements["192.0.2.1"];
    world.see(Seen::Announcement(
        "192.0.2.1".into(),
        Some(found(&"9".into(), spec, None)),
    ));
    world.see(Seen::Synced(Kind::Announcement));
    for (name, spec) in &old.speakers {
        let there = found(&"9".into(), spec, Some(Uid::from(&**name)));
        world.see(Seen::Speaker(name.clone(), Some(there)));
    }
    world.see(Seen::Synced(Kind::Speaker));
    world.go(Duration::from_millis(30));
    world.slice("web", &[("a", "ready")]);
    world.see(Seen::Synced(Kind::Slice));
    world.see(Seen::Synced(Kind::Status));
    world.node("a", Some(plain("a", "10.0.0.1")));
    world.node("b", Some(plain("b", "10.0.0.2")));
    // It is polled after each of these.
    world.go(Duration::ZERO);
    world.see(Seen::Synced(Kind::Node));
    world.go(Duration::ZERO);
    world.settle();
    assert_eq!(world.wrote(), [""; 0]);
}

#[test]
fn what_nobody_wants_goes_and_what_is_not_ours_stays() {
    let mut world = World::blind();
    for kind in [Kind::Announcement, Kind::Speaker] {
        world.see(Seen::Restarted(kind));
    }
    let old = found(&"1".into(), &AnnouncementSpec::default(), None);
    let foreign = Found {
        ours: false,
        ..old.clone()
    };
    world.see(Seen::Announcement("192.0.2.8".into(), Some(old)));
    world.see(Seen::Announcement("192.0.2.9".into(), Some(foreign)));
    let old = found(&"1".into(), &SpeakerSpec::default(), None);
    world.see(Seen::Speaker("a".into(), Some(old)));
    for kind in [Kind::Announcement, Kind::Speaker] {
        world.see(Seen::Synced(kind));
    }
    // No pool is announced: that nodes and endpoints are not known does not matter.
    world.hear(Word::All(Policies::new(), Vec::new()));
    world.settle();
    assert_eq!(world.wrote(), ["delete a", "delete 192.0.2.8"]);
}

#[test]
fn when_a_pool_is_not_announced_any_longer_everything_goes() {
    let mut world = served();
    world.hear(Word::Policies(Policies::new()));
    world.settle();
    assert_eq!(world.wrote(), ["delete a", "delete b", "delete 192.0.2.1"]);
    assert_eq!(world.told(), [""; 0]);
    world.hear(Word::Policies(policies(&["lan"])));
    world.settle();
    assert_eq!(
        world.wrote(),
        ["speaker a", "speaker b", "announcement 192.0.2.1"]
    );
}

#[test]
fn a_change_writes_what_it_touches_and_nothing_else() {
    let mut world = lan(&[
        wish("web", &["192.0.2.1"], false),
        wish("api", &["192.0.2.2"], true),
    ]);
    world.slice("api", &[("a", "ready")]);
    world.settle();
    world.wrote();
    world.slice("api", &[("b", "ready")]);
    world.settle();
    assert_eq!(world.wrote(), ["announcement 192.0.2.2"]);
    let cordoned = Node {
        last_choice: true,
        ..plain("b", "10.0.0.2")
    };
    world.node("b", Some(cordoned));
    world.settle();
    assert_eq!(world.wrote(), ["speaker b"]);
    world.node("b", None);
    world.settle();
    assert_eq!(world.wrote(), ["delete b"]);
    world.hear(Word::Wish(key("web"), None));
    world.settle();
    assert_eq!(world.wrote(), ["delete 192.0.2.1"]);
}

#[test]
fn groups_join_and_part_with_the_services_that_share() {
    let mut world = lan(&[
        wish("web", &["192.0.2.1"], false),
        wish("api", &["192.0.2.2"], false),
    ]);
    world.settle();
    world.wrote();
    world.wishes(wish("both", &["192.0.2.1", "192.0.2.2"], false));
    world.settle();
    assert_eq!(
        world.wrote(),
        ["announcement 192.0.2.1", "delete 192.0.2.2"]
    );
    world.hear(Word::Wish(key("both"), None));
    world.settle();
    // The one that gets an address comes before the one that loses it.
    assert_eq!(
        world.wrote(),
        ["announcement 192.0.2.2", "announcement 192.0.2.1"]
    );
    assert_eq!(
        world.announcement("192.0.2.2")["services"],
        json!(["shop/api"])
    );
}

#[test]
fn an_address_is_taken_from_a_group_only_when_its_new_one_has_it() {
    let mut world = lan(&[
        wish("web", &["192.0.2.1"], false),
        wish("api", &["192.0.2.2"], false),
    ]);
    world.settle();
    world.wrote();
    world.stuck = true;
    world.wishes(wish("both", &["192.0.2.1", "192.0.2.2"], false));
    world.go(Duration::from_secs(60));
    let names: Vec<_> = world.held.iter().map(|((_, name), _)| &**name).collect();
    assert_eq!(names, ["192.0.2.1"]);
    world.stuck = false;
    let (name, change) = world.held.remove(0);
    world.write(name, change);
    world.settle();
    assert_eq!(
        world.wrote(),
        ["announcement 192.0.2.1", "delete 192.0.2.2"]
    );
}

#[test]
fn two_groups_that_exchange_addresses_do_not_wait_for_each_other() {
    let mut world = lan(&[
        wish("one", &["192.0.2.1", "2001:db8::1"], false),
        wish("two", &["192.0.2.2", "2001:db8::2"], false),
    ]);
    world.settle();
    world.wrote();
    world.wishes(wish("one", &["192.0.2.1", "2001:db8::2"], false));
    world.wishes(wish("two", &["192.0.2.2", "2001:db8::1"], false));
    world.settle();
    assert_eq!(world.wrote().len(), 2);
    assert!(world.announcer.is_idle());
}

#[test]
fn a_node_that_is_made_anew_under_its_name_owns_its_speaker() {
    let mut world = served();
    let anew = Node {
        uid: Uid::from("another"),
        ..plain("b", "10.0.0.2")
    };
    world.node("b", Some(anew));
    world.settle();
    assert_eq!(world.wrote(), ["speaker b"]);
}

#[test]
fn changes_that_come_close_together_are_one_write() {
    let mut world = served();
    for on in [&[][..], &[("a", "going")], &[("b", "ready")]] {
        world.slice("web", on);
        world.go(Duration::from_millis(5));
    }
    world.settle();
    assert_eq!(
        world.wrote(),
        [""; 0],
        "some endpoint served all the while, as far as was looked"
    );
    world.slice("web", &[]);
    let before = world.now;
    world.go(Duration::from_millis(21));
    assert_eq!(world.wrote(), ["announcement 192.0.2.1"], "{before:?}");
}

#[test]
fn an_object_has_one_write_under_way_and_the_newest_wish_follows() {
    let mut world = served();
    world.stuck = true;
    world.wishes(wish("web", &["192.0.2.1"], true));
    world.settle();
    world.slice("web", &[("b", "ready")]);
    world.settle();
    assert_eq!(world.held.len(), 1);
    world.stuck = false;
    let (name, change) = world.held.remove(0);
    world.write(name, change);
    world.settle();
    assert_eq!(world.wrote(), ["announcement 192.0.2.1"; 2]);
    assert_eq!(world.announcement("192.0.2.1")["nodes"], json!(["b"]));
}

#[test]
fn nothing_is_decided_on_an_object_as_it_was_before_our_own_write() {
    let mut world = served();
    world.stuck = true;
    world.wishes(wish("web", &["192.0.2.1"], true));
    world.settle();
    let (name, change) = world.held.remove(0);
    let (result, seen) = world.serve(&name, change);
    world
        .announcer
        .handle(Input::Written(name.clone(), result), world.now);
    // An event from before comes late.
    let old = found(&"1".into(), &AnnouncementSpec::default(), None);
    world.see(Seen::Announcement("192.0.2.1".into(), Some(old)));
    world.settle();
    assert!(world.held.is_empty(), "{:?}", world.held);
    world.see(seen.unwrap());
    world.settle();
    assert!(world.held.is_empty(), "{:?}", world.held);
    assert!(world.announcer.is_idle());
}

#[test]
fn a_write_that_fails_is_tried_again_later_each_time() {
    let mut world = served();
    world.stuck = true;
    world.wishes(wish("web", &["192.0.2.1"], true));
    let mut pauses = Vec::new();
    for _ in 0..6 {
        while world.held.is_empty() {
            world.go(Duration::from_millis(10));
        }
        let (name, _) = world.held.remove(0);
        let at = world.now;
        let failed = Err(Failure::Unknown("no answer".to_owned()));
        world.announcer.handle(Input::Written(name, failed), at);
        while world.held.is_empty() {
            world.go(Duration::from_millis(10));
        }
        pauses.push(world.now - at);
    }
    assert!(pauses[5] > pauses[0] * 8, "{pauses:?}");
}

#[test]
fn at_most_so_many_writes_are_under_way() {
    let wishes: Vec<_> = (0..100)
        .map(|i| wish(&format!("s{i}"), &[&format!("192.0.2.{i}")], false))
        .collect();
    let mut world = lan(&wishes);
    world.stuck = true;
    world.settle();
    assert_eq!(world.held.len(), 16);
    world.stuck = false;
    for (name, change) in std::mem::take(&mut world.held) {
        world.write(name, change);
    }
    world.settle();
    assert_eq!(world.announcements.len(), 100);
}

#[test]
fn a_process_that_leads_again_hears_and_tells_everything_anew() {
    let mut world = served();
    world.announcer.handle(Input::Void, world.now);
    world.hear(Word::Wish(key("web"), None));
    world.settle();
    assert_eq!(world.wrote(), [""; 0]);
    world.hear(Word::All(
        policies(&["lan"]),
        vec![wish("web", &["192.0.2.1"], false)],
    ));
    world.settle();
    assert_eq!(world.wrote(), [""; 0]);
    let told = ["web Ready: 192.0.2.1 announced from node b on eth0"];
    assert_eq!(world.told(), told);
}

#[test]
fn what_a_list_does_not_bring_again_is_gone() {
    let mut world = served();
    world.see(Seen::Restarted(Kind::Node));
    world.node("a", Some(plain("a", "10.0.0.1")));
    world.see(Seen::Synced(Kind::Node));
    world.see(Seen::Restarted(Kind::Slice));
    // It is there; nobody knows what it says.
    world.see(Seen::Unreadable(Kind::Slice, "web".into()));
    world.see(Seen::Synced(Kind::Slice));
    world.settle();
    assert_eq!(world.wrote(), ["delete b"]);
}

#[test]
fn of_two_that_say_they_answer_the_later_counts_and_one_without_a_node_counts_nothing() {
    let mut world = served();
    world.says("a", Some(said(&[("192.0.2.1", 2)])));
    world.settle();
    let told = ["web Ready: 192.0.2.1 announced from node a on eth0"];
    assert_eq!(world.told(), told);
    world.says("b", Some(said(&[])));
    world.settle();
    assert_eq!(world.told(), [""; 0], "one change of outcome is told once");
    world.says("stranger", Some(said(&[("192.0.2.1", 9)])));
    world.settle();
    assert_eq!(world.told(), [""; 0]);
    world.node("a", None);
    world.says("b", Some(said(&[("192.0.2.1", 3)])));
    world.settle();
    let told = ["web Ready: 192.0.2.1 announced from node b on eth0"];
    assert_eq!(world.told(), told);
}

#[test]
fn both_families_are_one_sentence_when_alike_and_two_when_not() {
    let mut world = lan(&[wish("web", &["192.0.2.1", "2001:db8::1"], false)]);
    world.slice("web", &[("a", "ready")]);
    world.says("a", Some(said(&[("192.0.2.1", 1), ("2001:db8::1", 1)])));
    world.settle();
    let told = ["web Ready: 192.0.2.1 and 2001:db8::1 announced from node a on eth0"];
    assert_eq!(world.told(), told);
    let mut other = said(&[("192.0.2.1", 1), ("2001:db8::1", 1)]);
    other.announced[1].interfaces = vec!["eth1".to_owned(), "eth2".to_owned()];
    world.says("a", Some(other));
    world.settle();
    let told = [
        "web Ready: 192.0.2.1 announced from node a on eth0; 2001:db8::1 announced from node a on \
         eth1, eth2",
    ];
    assert_eq!(world.told(), told);
}

#[test]
fn another_machine_with_the_address_is_told_by_its_hardware_address() {
    let mut world = served();
    let mut said = said(&[("192.0.2.1", 1)]);
    said.announced[0].conflict = Some("02:00:00:00:00:09".to_owned());
    world.says("b", Some(said));
    world.settle();
    let told = [
        "web AddressConflict: 192.0.2.1 announced from node b on eth0; another machine, \
         02:00:00:00:00:09, answers for 192.0.2.1, too: give one of the two another address",
    ];
    assert_eq!(world.told(), told);
}

#[test]
fn that_nobody_answers_is_told_only_when_it_has_lasted_if_somebody_could() {
    let mut world = served();
    world.says("a", Some(said(&[])));
    world.says("b", Some(said(&[])));
    world.go(4 * SECOND);
    assert_eq!(world.told(), [""; 0]);
    world.says("a", Some(said(&[("192.0.2.1", 4)])));
    world.go(10 * SECOND);
    let told = ["web Ready: 192.0.2.1 announced from node a on eth0"];
    assert_eq!(world.told(), told, "it has moved, and that is all");
    world.says("a", Some(said(&[])));
    world.go(6 * SECOND);
    let told = [
        "web NotAnnounced: 192.0.2.1 announced by no node: a: it does not answer; b: it does not \
         answer",
    ];
    assert_eq!(world.told(), told);
    assert!(world.announcer.is_idle());
}

#[test]
fn each_node_that_does_not_answer_has_its_reason() {
    let mut world = World::new();
    let not_f = allocator::Requirement {
        key: "name".to_owned(),
        operator: allocator::Operator::NotIn,
        values: ["f".to_owned()].into(),
    };
    let policy = Policy {
        nodes: Some(allocator::Selector {
            requirements: vec![not_f],
        }),
        ..Policy::default()
    };
    for name in ["a", "b", "c", "d", "e", "f"] {
        world.node(name, Some(plain(name, "10.0.0.1")));
    }
    let excluded = a_node(json!({
        "metadata": {"uid": "c"},
        "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    }));
    world.node("c", excluded);
    world.node("d", a_node(json!({"metadata": {"uid": "d"}})));
    let mut unable = said(&[]);
    unable.unable.push(crds::Unable {
        pool: "lan".to_owned(),
        message: "no interface that is up matches eth1".to_owned(),
    });
    world.says("a", Some(unable));
    world.slice(
        "web",
        &[
            ("a", "ready"),
            ("b", "ready"),
            ("c", "ready"),
            ("d", "ready"),
        ],
    );
    let policies = [(Arc::from("lan"), Arc::new(policy))];
    world.hear(Word::All(
        policies.into(),
        vec![wish("web", &["192.0.2.1"], true)],
    ));
    world.settle();
    let told = [
        "web NotAnnounced: 192.0.2.1 announced by no node: a: no interface that is up matches eth1; \
         b: no speaker runs there; e: no endpoint of shop/web is there; d: it has no InternalIP; \
         c: the node has the taint node.kubernetes.io/out-of-service; and 1 more",
    ];
    assert_eq!(world.told(), told);
    world.slice("web", &[("a", "starting")]);
    world.settle();
    let told =
        ["web NotAnnounced: 192.0.2.1 announced by no node: no endpoint of shop/web is ready"];
    assert_eq!(world.told(), told);
}

#[test]
fn a_status_entry_that_cannot_be_read_harms_no_other() {
    let mut world = served();
    let mut odd = said(&[("nonsense", 1), ("192.0.2.1", 1)]);
    odd.announced[1].since = "yesterday".to_owned();
    world.says("a", Some(odd));
    world.settle();
    assert_eq!(
        world.told(),
        [""; 0],
        "what has no time is older than everything"
    );
}

#[test]
fn ten_thousand_services_cost_one_write_each_and_a_change_among_them_one() {
    let wishes: Vec<_> = (0..10_000_u32)
        .map(|i| {
            let ip = format!("10.{}.{}.{}", i / 65536, i / 256 % 256, i % 256);
            wish(&format!("s{i}"), &[&ip], false)
        })
        .collect();
    let mut world = lan(&wishes);
    world.settle();
    assert_eq!(world.wrote().len(), 10_002);
    world.slice("s77", &[("a", "ready")]);
    world.settle();
    assert_eq!(world.wrote(), ["announcement 10.0.0.77"]);
}
