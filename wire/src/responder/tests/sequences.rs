//! Any sequence of calls, checked after each against a model that is as plain as can be.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    SetLinks(Vec<Link>),
    Own(IpAddr, Vec<u32>),
    AnnounceAgain(IpAddr),
    Disown(IpAddr),
    Hold(IpAddr, u64),
    Defend(IpAddr, u32),
    Hear(u32, Vec<u8>),
    Wait(u64),
    /// A caller that is interrupted while it polls.
    Poll(usize),
    Drain,
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (5_u8..8).prop_map(|low| IpAddr::from(Ipv4Addr::new(203, 0, 113, low))),
        // Prefixes differ, groups are shared.
        (0_u16..2, 5_u16..7).prop_map(|(net, low)| {
            IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, low))
        }),
    ]
}

fn mac() -> impl Strategy<Value = Mac> {
    prop_oneof![
        Just(OUR_MAC),
        Just(OUR_OTHER_MAC),
        Just(THEIR_MAC),
        Just(Mac::BROADCAST),
        any::<[u8; 6]>().prop_map(Mac)
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let packet = (mac(), address(), address(), 0_u8..8);
    let made = packet.prop_map(|(mac, from, about, kind)| match (from, about) {
        (IpAddr::V4(from), IpAddr::V4(about)) => match kind {
            0 | 1 => arp::Packet::request(mac, THEIR_V4, about).write(),
            2 => arp::Packet::request(mac, Ipv4Addr::UNSPECIFIED, about).write(),
            3 => arp::Packet::request(mac, from, about).write(),
            4 => arp::Packet::announcement(mac, about).write(),
            _ => arp::Packet::reply(mac, from, OUR_MAC, about).write(),
        },
        (_, IpAddr::V6(about)) => match kind {
            0 | 1 => ndp::Message::solicitation(mac, THEIR_V6, about).write(),
            2 => ndp::Message::probe(mac, about).write(),
            3 => ndp::Message::advertisement(mac, about, OUR_MAC, THEIR_V6).write(),
            _ => ndp::Message::announcement(mac, about).write(),
        },
        (IpAddr::V6(_), IpAddr::V4(about)) => arp::Packet::gratuitous_reply(mac, about).write(),
    });
    let noise = prop::collection::vec(any::<u8>(), 0..120);
    prop_oneof![8 => made, 1 => noise]
}

fn step() -> impl Strategy<Value = Step> {
    let link = || 1_u32..4;
    let links = prop::collection::btree_map(link(), mac(), 0..3).prop_map(|links| {
        let links = links.into_iter().map(|(id, mac)| Link { id, mac });
        links.collect()
    });
    prop_oneof![
        1 => links.prop_map(Step::SetLinks),
        4 => (address(), prop::collection::vec(link(), 0..3))
            .prop_map(|(ip, links)| Step::Own(ip, links)),
        1 => address().prop_map(Step::AnnounceAgain),
        2 => address().prop_map(Step::Disown),
        2 => (address(), 0_u64..300).prop_map(|(ip, for_ms)| Step::Hold(ip, for_ms)),
        1 => (address(), link()).prop_map(|(ip, link)| Step::Defend(ip, link)),
        8 => (link(), frame()).prop_map(|(link, frame)| Step::Hear(link, frame)),
        3 => (0_u64..20_000).prop_map(Step::Wait),
        3 => (0_u64..200).prop_map(Step::Wait),
        2 => (0_usize..5).prop_map(Step::Poll),
        4 => Just(Step::Drain),
    ]
}

/// What is owned, on which links, and silent until when.
#[derive(Default)]
struct Model {
    now: Duration,
    links: BTreeMap<u32, Mac>,
    owned: BTreeMap<IpAddr, (BTreeSet<u32>, Duration)>,
    heard: u64,
}

impl Model {
    fn may_speak(&self, ip: IpAddr, link: u32) -> bool {
        let may = |(links, held): &(BTreeSet<u32>, Duration)| {
            links.contains(&link) && self.links.contains_key(&link) && *held <= self.now
        };
        self.owned.get(&ip).is_some_and(may)
    }

    fn check_frame(&self, frame: &Frame) {
        let ip = subject(frame);
        assert!(self.may_speak(ip, frame.link), "{frame:?} for {ip}");
        let mac = self.links[&frame.link];
        let (source, said) = match Heard::read(&frame.bytes).unwrap() {
            Heard::Arp(packet) => (packet.source, packet.sender_mac),
            Heard::Ndp(message) => (message.source, message.link_layer.unwrap()),
        };
        assert_eq!((source, said), (mac, mac));
    }

    fn check_claim(&self, claim: Claim) {
        let (links, _) = &self.owned[&claim.ip];
        assert!(links.contains(&claim.link));
        assert!(self.links.values().all(|own| *own != claim.mac));
    }

    /// What holds at any time.
    fn check(&self, responder: &Responder) {
        let groups: BTreeSet<(u32, Ipv6Addr)> = (self.owned.iter())
            .filter_map(|(ip, (links, _))| match ip {
                IpAddr::V6(ip) => Some((ndp::solicited_node(*ip), links)),
                IpAddr::V4(_) => None,
            })
            .flat_map(|(group, links)| links.iter().map(move |link| (*link, group)))
            .filter(|(link, _)| self.links.contains_key(link))
            .collect();
        let told: Vec<_> = responder.groups().collect();
        assert_eq!(told, groups.into_iter().collect::<Vec<_>>());
        assert!(responder.answered() <= self.heard);
        assert!(responder.answers.len() <= MOST_ANSWERS);
    }

    /// What holds when everything that was due has been polled.
    fn check_drained(&self, responder: &Responder) {
        assert!(responder.deadline().is_none_or(|next| next > self.now));
        for (ip, (links, held)) in &self.owned {
            if links.iter().any(|link| self.may_speak(*ip, *link)) {
                assert!(responder.has_announced(*ip), "{ip}");
                assert!(responder.deadline().is_some(), "{ip} is repeated");
            } else if *held > self.now && links.iter().any(|link| self.links.contains_key(link)) {
                assert!(responder.deadline().is_some(), "{ip} ends its silence");
            }
        }
    }
}

fn take(responder: &mut Responder, model: &mut Model, step: Step) {
    let now = model.now;
    match step {
        Step::SetLinks(links) => {
            responder.set_links(&links);
            model.links = links.iter().map(|link| (link.id, link.mac)).collect();
        }
        Step::Own(ip, links) => {
            responder.own(ip, &links, now);
            model.owned.entry(ip).or_default().0 = links.into_iter().collect();
        }
        Step::AnnounceAgain(ip) => responder.announce_again(ip, now),
        Step::Disown(ip) => {
            responder.disown(ip);
            model.owned.remove(&ip);
        }
        Step::Hold(ip, for_ms) => {
            responder.hold(ip, now + ms(for_ms));
            if let Some((_, held)) = model.owned.get_mut(&ip) {
                *held = now + ms(for_ms);
            }
        }
        Step::Defend(ip, link) => responder.defend(ip, link, now),
        Step::Hear(link, frame) => {
            model.heard += 1;
            if let Some(claim) = responder.handle(link, &frame, now) {
                model.check_claim(claim);
            }
        }
        Step::Wait(for_ms) => model.now += ms(for_ms),
        Step::Poll(count) => {
            for _ in 0..count {
                if let Some(frame) = responder.poll(now) {
                    model.check_frame(&frame);
                }
            }
        }
        Step::Drain => {
            for frame in drain(responder, now) {
                model.check_frame(&frame);
            }
            model.check_drained(responder);
        }
    }
    model.check(responder);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_speaks_only_for_what_it_owns_and_announces_all_of_that(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut responder = Responder::new(Settings::default(), seed);
        let mut model = Model { now: START, ..Model::default() };
        take(&mut responder, &mut model, Step::SetLinks(both_links().to_vec()));
        for step in steps {
            take(&mut responder, &mut model, step);
        }
        take(&mut responder, &mut model, Step::Drain);
    }
}
