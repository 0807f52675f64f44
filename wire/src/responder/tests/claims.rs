use super::*;

fn claim(ip: impl Into<IpAddr>) -> Option<Claim> {
    Some(Claim {
        ip: ip.into(),
        mac: THEIR_MAC,
        link: ETH0,
    })
}

#[test]
fn who_claims_what() {
    let reply = arp::Packet::reply(THEIR_MAC, V4, Mac([6, 0, 0, 0, 0, 8]), THEIR_V4);
    let mut solicited = ndp::Message::advertisement(THEIR_MAC, V6, OUR_MAC, THEIR_V6);
    solicited.link_layer = None;
    #[rustfmt::skip]
    let rows = [
        ("an announcement", arp::Packet::announcement(THEIR_MAC, V4).write(), claim(V4)),
        ("a gratuitous reply", arp::Packet::gratuitous_reply(THEIR_MAC, V4).write(), claim(V4)),
        ("a reply to somebody else", reply.write(), claim(V4)),
        ("a request that comes from our address", arp::Packet::request(THEIR_MAC, V4, THEIR_V4).write(), claim(V4)),
        ("an advertisement", ndp::Message::announcement(THEIR_MAC, V6).write(), claim(V6)),
        ("an advertisement without a link-layer address", solicited.write(), claim(V6)),
        ("an IPv6 probe", ndp::Message::probe(THEIR_MAC, V6).write(), claim(V6)),
        ("an ARP probe", arp::Packet::request(THEIR_MAC, Ipv4Addr::UNSPECIFIED, V4).write(), None),
        ("a request", arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write(), None),
        ("a solicitation", ndp::Message::solicitation(THEIR_MAC, THEIR_V6, V6).write(), None),
        ("another address", arp::Packet::announcement(THEIR_MAC, THEIR_V4).write(), None),
        ("another IPv6 address", ndp::Message::announcement(THEIR_MAC, THEIR_V6).write(), None),
        ("ourselves", arp::Packet::announcement(OUR_MAC, V4).write(), None),
        ("our other link", arp::Packet::announcement(OUR_OTHER_MAC, V4).write(), None),
        ("our own advertisement", ndp::Message::announcement(OUR_MAC, V6).write(), None),
        ("our own probe", ndp::Message::probe(OUR_OTHER_MAC, V6).write(), None),
    ];
    for (what, frame, expected) in rows {
        assert_eq!(owner().handle(ETH0, &frame, START), expected, "{what}");
    }
}

#[test]
fn a_claim_on_a_link_that_is_not_the_addresss_is_none() {
    let frame = arp::Packet::announcement(THEIR_MAC, V4).write();
    assert_eq!(owner().handle(ETH1, &frame, START), None);
    assert_eq!(owner().handle(99, &frame, START), None);
}

#[test]
fn a_claim_is_told_while_the_address_is_held() {
    let mut responder = owner();
    responder.hold(V4.into(), START + ms(150));
    let frame = arp::Packet::announcement(THEIR_MAC, V4).write();
    assert_eq!(responder.handle(ETH0, &frame, START), claim(V4));
}

#[test]
fn a_claim_is_not_answered_but_a_probe_is() {
    let mut responder = owner();
    let frame = arp::Packet::announcement(THEIR_MAC, V4).write();
    responder.handle(ETH0, &frame, START);
    assert_eq!(drain(&mut responder, START), []);
    responder.handle(ETH0, &ndp::Message::probe(THEIR_MAC, V6).write(), START);
    assert_eq!(drain(&mut responder, START).len(), 1);
}

#[test]
fn one_frame_may_claim_one_address_and_ask_for_another() {
    let mut responder = owner();
    let second = Ipv4Addr::new(203, 0, 113, 6);
    responder.own(second.into(), &[ETH0], START);
    drain(&mut responder, START);
    let frame = arp::Packet::request(THEIR_MAC, V4, second).write();
    assert_eq!(responder.handle(ETH0, &frame, START), claim(V4));
    let sent = drain(&mut responder, START);
    let said: Vec<_> = sent.iter().map(|frame| arp_of(frame).sender_ip).collect();
    assert_eq!(said, [second]);
}

#[test]
fn a_defence_is_one_announcement_on_that_link_and_the_next_waits_for_the_interval() {
    let mut responder = owner();
    responder.own(V4.into(), &[ETH0, ETH1], START);
    // Beyond the burst, so that nothing else is due.
    for second in 0..10 {
        drain(&mut responder, START + ms(1000 * second));
    }
    let now = START + ms(20_000);
    #[rustfmt::skip]
    let rows = [
        ("at first", ETH0, 0, 2),
        ("too soon", ETH0, 9_999, 0),
        ("on another link", ETH1, 9_999, 2),
        ("after the interval", ETH0, 10_000, 2),
        ("on a link that it is not on", 99, 30_000, 0),
    ];
    for (when, link, after, frames) in rows {
        let now = now + ms(after);
        responder.defend(V4.into(), link, now);
        let sent = drain(&mut responder, now);
        assert_eq!(sent.len(), frames, "{when}");
        assert!(sent.iter().all(|frame| frame.link == link));
    }
}

#[test]
fn what_is_held_or_not_owned_is_not_defended() {
    let mut responder = owner();
    responder.hold(V4.into(), START + ms(150));
    responder.defend(V4.into(), ETH0, START);
    responder.defend(THEIR_V4.into(), ETH0, START);
    assert_eq!(drain(&mut responder, START), []);
    responder.defend(V4.into(), ETH0, START + ms(150));
    assert!(!drain(&mut responder, START + ms(150)).is_empty());
}
