use super::*;

/// When frames that speak for `ip` were handed out, in ms from `START`, by polling at each deadline.
fn times(responder: &mut Responder, ip: IpAddr, until: Duration) -> Vec<u64> {
    let mut times = Vec::new();
    let mut now = START;
    while now <= until {
        for frame in drain(responder, now) {
            if subject(&frame) == ip {
                times.push(u64::try_from((now - START).as_millis()).unwrap());
            }
        }
        let Some(next) = responder.deadline() else {
            break;
        };
        assert!(next > now, "a deadline passed unused");
        now = next;
    }
    times
}

#[test]
fn a_burst_is_dense_at_first_and_then_sparse() {
    let mut responder = idle();
    responder.own(V6.into(), &[ETH0], START);
    let times = times(&mut responder, V6.into(), START + ms(6000));
    let expected = [
        0, 50, 150, 650, 1150, 1650, 2150, 2650, 3150, 3650, 4150, 4650,
    ];
    assert_eq!(times, expected);
}

#[test]
fn repetitions_come_each_minute_give_or_take_a_tenth_and_differ() {
    let mut responder = idle();
    responder.own(V6.into(), &[ETH0], START);
    let times = times(&mut responder, V6.into(), START + ms(3_600_000));
    let gaps: Vec<u64> = times[11..].windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.len() > 50, "{gaps:?}");
    assert!(
        gaps.iter().all(|gap| (54_000..=66_000).contains(gap)),
        "{gaps:?}"
    );
    assert!(gaps.iter().max() > gaps.iter().min());
}

#[test]
fn without_repetition_a_burst_is_all() {
    let mut responder = Responder::new(
        Settings {
            repeat: Duration::ZERO,
            ..Settings::default()
        },
        7,
    );
    responder.set_links(&both_links());
    responder.own(V6.into(), &[ETH0], START);
    let times = times(&mut responder, V6.into(), START + ms(3_600_000));
    assert_eq!(times.len(), 12);
    assert_eq!(responder.deadline(), None);
}

#[test]
fn three_announcements_are_made_however_short_a_burst_is() {
    let settings = Settings {
        burst: Duration::ZERO,
        ..Settings::default()
    };
    let mut responder = Responder::new(settings, 7);
    responder.set_links(&both_links());
    responder.own(V6.into(), &[ETH0], START);
    let times = times(&mut responder, V6.into(), START + ms(10_000));
    assert_eq!(times, [0, 50, 150]);
}

#[test]
fn what_falls_on_the_end_of_a_burst_is_part_of_it() {
    let settings = Settings {
        burst: ms(650),
        ..Settings::default()
    };
    let mut responder = Responder::new(settings, 7);
    responder.set_links(&both_links());
    responder.own(V6.into(), &[ETH0], START);
    let times = times(&mut responder, V6.into(), START + ms(10_000));
    assert_eq!(times, [0, 50, 150, 650]);
}

#[test]
fn frames_left_from_an_earlier_ownership_count_for_nothing() {
    let mut responder = idle();
    responder.own(V4.into(), &[ETH0, ETH1], START);
    assert!(responder.poll(START).is_some());
    responder.disown(V4.into());
    responder.own(V4.into(), &[ETH0, ETH1], START);
    for _ in 0..4 {
        assert!(!responder.has_announced(V4.into()));
        assert!(responder.poll(START).is_some());
    }
    assert!(responder.has_announced(V4.into()));
}

#[test]
fn polling_ends_whatever_was_set() {
    for extreme in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let settings = Settings {
            burst: extreme,
            burst_interval: extreme,
            repeat: extreme,
            defend_interval: extreme,
        };
        let mut responder = Responder::new(settings, 7);
        responder.set_links(&both_links());
        responder.own(V4.into(), &[ETH0, ETH1], Duration::ZERO);
        for now in [START, START + ms(50), Duration::MAX] {
            drain(&mut responder, now);
            responder.defend(V4.into(), ETH0, now);
        }
    }
}

#[test]
fn ipv4_is_announced_by_a_request_and_a_reply_on_each_link() {
    let mut responder = idle();
    responder.own(V4.into(), &[ETH0, ETH1], START);
    let sent = drain(&mut responder, START);
    let said: Vec<_> = sent
        .iter()
        .map(|frame| (frame.link, arp_of(frame)))
        .collect();
    let expected = [
        (ETH0, arp::Packet::announcement(OUR_MAC, V4)),
        (ETH0, arp::Packet::gratuitous_reply(OUR_MAC, V4)),
        (ETH1, arp::Packet::announcement(OUR_OTHER_MAC, V4)),
        (ETH1, arp::Packet::gratuitous_reply(OUR_OTHER_MAC, V4)),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_gratuitous_reply_names_the_sender_as_target_or_linux_would_not_heed_it() {
    let reply = arp::Packet::gratuitous_reply(OUR_MAC, V4);
    assert_eq!(reply.target_mac, reply.sender_mac);
    assert_eq!(reply.target_ip, reply.sender_ip);
    assert_eq!(reply.destination, Mac::BROADCAST);
}

#[test]
fn ipv6_is_announced_to_all_nodes_with_override_and_without_solicited() {
    let mut responder = idle();
    responder.own(V6.into(), &[ETH0], START);
    let sent = drain(&mut responder, START);
    assert_eq!(sent.len(), 1);
    let said = ndp_of(&sent[0]);
    assert_eq!((said.from, said.to), (V6, ndp::ALL_NODES));
    assert_eq!(said.link_layer, Some(OUR_MAC));
    let flags = ndp::Kind::Advertisement {
        router: false,
        solicited: false,
        overrides: true,
    };
    assert_eq!(said.kind, flags);
}

#[test]
fn the_first_round_of_all_comes_before_the_second_of_any() {
    let mut responder = idle();
    let all: Vec<IpAddr> = (0..=255)
        .flat_map(|low| [0, 1].map(|high| Ipv4Addr::new(198, 18, high, low).into()))
        .collect();
    for (number, ip) in (0..).zip(&all) {
        responder.own(*ip, &[ETH0], START + Duration::from_micros(number));
    }
    // The caller can send one frame a millisecond: the second rounds of the first are long due.
    let mut seen = std::collections::BTreeMap::<IpAddr, u32>::new();
    for step in 0..1024 {
        let frame = responder.poll(START + ms(1 + step)).unwrap();
        *seen.entry(subject(&frame)).or_default() += 1;
    }
    assert_eq!(seen.len(), 512);
    assert!(
        seen.values().all(|count| *count == 2),
        "a request and a reply of each"
    );
    assert!(all.iter().all(|ip| responder.has_announced(*ip)));
}

#[test]
fn a_late_poll_makes_a_burst_late_but_not_shorter() {
    let mut responder = idle();
    responder.own(V6.into(), &[ETH0], START);
    let late = START + ms(3000);
    assert_eq!(drain(&mut responder, late).len(), 1);
    assert_eq!(responder.deadline(), Some(late + ms(50)));
}

#[test]
fn it_has_announced_once_every_frame_of_the_first_round_was_handed_out() {
    let mut responder = idle();
    responder.own(V4.into(), &[ETH0, ETH1], START);
    for _ in 0..4 {
        assert!(!responder.has_announced(V4.into()));
        assert!(responder.poll(START).is_some());
    }
    assert!(responder.has_announced(V4.into()));
    responder.disown(V4.into());
    assert!(!responder.has_announced(V4.into()));
    responder.own(V4.into(), &[ETH0], START);
    assert!(!responder.has_announced(V4.into()));
}

#[test]
fn a_first_round_that_was_cut_short_is_made_again_at_once() {
    let later = START + ms(20);
    let rows: [fn(&mut Responder); 3] = [
        |responder| responder.own(V4.into(), &[ETH0], START),
        |responder| responder.set_links(&both_links()[..1]),
        |responder| {
            responder.hold(V4.into(), START + ms(20));
            assert_eq!(drain(responder, START), []);
        },
    ];
    for cut in rows {
        let mut responder = idle();
        responder.own(V4.into(), &[ETH0, ETH1], START);
        // The first of four frames.
        assert!(responder.poll(START).is_some());
        cut(&mut responder);
        drain(&mut responder, later);
        assert!(responder.has_announced(V4.into()));
    }
}

#[test]
fn owning_again_with_the_same_links_begins_nothing() {
    let mut responder = owner();
    responder.own(V4.into(), &[ETH0], START);
    assert!(responder.has_announced(V4.into()));
    assert_eq!(drain(&mut responder, START), []);
}

#[test]
fn owning_again_with_another_link_begins_a_burst_there_and_ends_the_old_one() {
    let mut responder = owner();
    responder.own(V4.into(), &[ETH1], START);
    assert!(!responder.has_announced(V4.into()));
    let links: Vec<u32> = (drain(&mut responder, START).iter())
        .map(|frame| frame.link)
        .collect();
    assert_eq!(links, [ETH1, ETH1]);
    assert!(responder.has_announced(V4.into()));
}

#[test]
fn announcing_again_begins_a_burst() {
    let mut responder = owner();
    let later = START + ms(20_000);
    drain(&mut responder, later);
    responder.announce_again(V4.into(), later);
    responder.announce_again(THEIR_V4.into(), later);
    assert_eq!(drain(&mut responder, later).len(), 2);
    assert_eq!(responder.deadline(), Some(later + ms(50)));
}

#[test]
fn what_falls_into_a_silence_is_announced_at_its_end() {
    let mut responder = idle();
    responder.own(V6.into(), &[ETH0], START);
    responder.hold(V6.into(), START + ms(150));
    assert_eq!(responder.deadline(), Some(START + ms(150)));
    assert_eq!(drain(&mut responder, START + ms(149)), []);
    assert!(!responder.has_announced(V6.into()));
    assert_eq!(drain(&mut responder, START + ms(150)).len(), 1);
}

#[test]
fn a_silence_can_be_cut_short() {
    let mut responder = idle();
    responder.own(V6.into(), &[ETH0], START);
    responder.hold(V6.into(), START + ms(150));
    responder.hold(V6.into(), START);
    assert_eq!(drain(&mut responder, START).len(), 1);
}

#[test]
fn an_address_waits_for_its_link() {
    let mut responder = Responder::new(Settings::default(), 7);
    responder.own(V6.into(), &[ETH0], START);
    assert_eq!(responder.deadline(), None);
    assert_eq!(drain(&mut responder, START), []);
    responder.set_links(&both_links());
    assert!(responder.deadline().unwrap() <= START);
    assert_eq!(drain(&mut responder, START + ms(1)).len(), 1);
    assert_eq!(responder.deadline(), Some(START + ms(51)));
}

#[test]
fn a_link_that_gets_another_address_makes_its_addresses_announced_again() {
    let mut responder = owner();
    let mut links = both_links();
    links[0].mac = Mac([2, 0, 0, 0, 0, 42]);
    responder.set_links(&links);
    let sent = drain(&mut responder, START + ms(1));
    assert_eq!(sent.len(), 3);
    assert_eq!(arp_of(&sent[0]).sender_mac, links[0].mac);
}

#[test]
fn links_that_stay_as_they_are_disturb_nothing() {
    let mut responder = owner();
    responder.set_links(&both_links()[..1]);
    responder.set_links(&both_links()[..1]);
    assert_eq!(drain(&mut responder, START + ms(1)), []);
}

#[test]
fn the_groups_are_those_of_owned_ipv6_addresses_each_once() {
    let mut responder = owner();
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 5);
    let groups = |responder: &Responder| responder.groups().collect::<Vec<_>>();
    assert_eq!(groups(&responder), [(ETH0, group)]);
    // Another prefix, the same low 24 bits.
    let sibling: IpAddr = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 5).into();
    responder.own(sibling, &[ETH0, ETH1], START);
    assert_eq!(groups(&responder), [(ETH0, group), (ETH1, group)]);
    responder.disown(V6.into());
    assert_eq!(groups(&responder), [(ETH0, group), (ETH1, group)]);
    responder.set_links(&both_links()[1..]);
    assert_eq!(groups(&responder), [(ETH1, group)]);
    responder.own(sibling, &[ETH0], START);
    responder.disown(sibling);
    responder.disown(sibling);
    assert_eq!(groups(&responder), []);
}
