use super::*;

fn answers(responder: &mut Responder, frame: &[u8]) -> Vec<Frame> {
    responder.handle(ETH0, frame, START);
    drain(responder, START)
}

#[test]
fn a_request_for_an_owned_address_is_answered_to_the_asker() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4);
    let mut responder = owner();
    let sent = answers(&mut responder, &request.write());
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].link, ETH0);
    let expected = arp::Packet::reply(OUR_MAC, V4, THEIR_MAC, THEIR_V4);
    assert_eq!(arp_of(&sent[0]), expected);
    assert_eq!(responder.answered(), 1);
}

#[test]
fn a_solicitation_for_an_owned_address_is_answered_to_the_asker() {
    let solicitation = ndp::Message::solicitation(THEIR_MAC, THEIR_V6, V6);
    let sent = answers(&mut owner(), &solicitation.write());
    assert_eq!(sent.len(), 1);
    let answer = ndp_of(&sent[0]);
    assert_eq!(answer.destination, THEIR_MAC);
    assert_eq!((answer.from, answer.to), (V6, THEIR_V6));
    assert_eq!(answer.link_layer, Some(OUR_MAC));
    let flags = ndp::Kind::Advertisement {
        router: false,
        solicited: true,
        overrides: true,
    };
    assert_eq!(answer.kind, flags);
}

#[test]
fn a_solicitation_without_a_link_layer_address_is_answered_to_the_station_that_sent_it() {
    let mut solicitation = ndp::Message::solicitation(THEIR_MAC, THEIR_V6, V6);
    solicitation.destination = OUR_MAC;
    solicitation.to = V6;
    solicitation.link_layer = None;
    let sent = answers(&mut owner(), &solicitation.write());
    assert_eq!(ndp_of(&sent[0]).destination, THEIR_MAC);
}

#[test]
fn an_arp_probe_is_answered_so_that_the_prober_takes_another_address() {
    let probe = arp::Packet::request(THEIR_MAC, Ipv4Addr::UNSPECIFIED, V4);
    let sent = answers(&mut owner(), &probe.write());
    assert_eq!(sent.len(), 1);
    assert_eq!(arp_of(&sent[0]).sender_ip, V4);
    assert_eq!(arp_of(&sent[0]).destination, THEIR_MAC);
}

#[test]
fn an_ndp_probe_is_answered_to_all_nodes() {
    let probe = ndp::Message::probe(THEIR_MAC, V6);
    let sent = answers(&mut owner(), &probe.write());
    assert_eq!(sent.len(), 1);
    assert_eq!(ndp_of(&sent[0]), ndp::Message::announcement(OUR_MAC, V6));
    assert_eq!(ndp_of(&sent[0]).destination, Mac([0x33, 0x33, 0, 0, 0, 1]));
}

#[test]
fn what_is_not_answered() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4);
    let solicitation = ndp::Message::solicitation(THEIR_MAC, THEIR_V6, V6);
    let arp = |change: fn(&mut arp::Packet)| {
        let mut packet = request;
        change(&mut packet);
        packet.write()
    };
    let ndp = |change: fn(&mut ndp::Message)| {
        let mut message = solicitation;
        change(&mut message);
        message.write()
    };
    let cut = |mut frame: Vec<u8>, by: usize| {
        frame.truncate(frame.len() - by);
        frame
    };
    let tagged = |mut frame: Vec<u8>| {
        frame.splice(12..12, [0x81, 0, 0, 10]);
        frame
    };
    let patched = |mut frame: Vec<u8>, at: usize, byte: u8| {
        frame[at] = byte;
        frame
    };
    #[rustfmt::skip]
    let rows = [
        ("another IPv4 address", arp(|p| p.target_ip = Ipv4Addr::new(203, 0, 113, 6))),
        ("a reply", arp(|p| p.operation = arp::Operation::Reply)),
        ("a frame for another station", arp(|p| p.destination = Mac([6, 0, 0, 0, 0, 8]))),
        ("a sender that is a group", arp(|p| p.sender_mac = Mac::BROADCAST)),
        ("a sender that is nobody", arp(|p| p.sender_mac = Mac::ZERO)),
        ("our own request", arp(|p| { p.source = OUR_MAC; p.sender_mac = OUR_MAC; })),
        ("a request of our other link", arp(|p| p.sender_mac = OUR_OTHER_MAC)),
        ("an announcement of a stranger", arp(|p| p.sender_ip = V4)),
        ("a request that lacks a byte", cut(request.write(), 1)),
        ("a request in a VLAN", tagged(request.write())),
        ("a request for hardware other than Ethernet", patched(request.write(), 15, 6)),
        ("a request for a protocol other than IPv4", patched(request.write(), 16, 9)),
        ("a request with longer link-layer addresses", patched(request.write(), 18, 8)),
        ("a request with longer addresses", patched(request.write(), 19, 16)),
        ("a reverse request", patched(request.write(), 21, 3)),
        ("another IPv6 address", ndp(|m| m.target = THEIR_V6)),
        ("an advertisement", ndp(|m| m.kind = ndp::Message::announcement(THEIR_MAC, V6).kind)),
        ("a solicitation for another station", ndp(|m| m.destination = Mac([6, 0, 0, 0, 0, 8]))),
        ("a solicitation from a group", ndp(|m| m.from = ndp::ALL_NODES)),
        ("a solicitation from the loopback", ndp(|m| m.from = Ipv6Addr::LOCALHOST)),
        ("a link-layer address that is a group", ndp(|m| m.link_layer = Some(Mac::BROADCAST))),
        ("our own solicitation", ndp(|m| m.source = OUR_MAC)),
        ("a probe with a link-layer address", ndp(|m| m.from = Ipv6Addr::UNSPECIFIED)),
        ("a probe to all nodes", ndp(|m| { m.from = Ipv6Addr::UNSPECIFIED; m.link_layer = None; m.to = ndp::ALL_NODES; })),
        ("a solicitation that lacks a byte", cut(solicitation.write(), 1)),
        ("a solicitation in a VLAN", tagged(solicitation.write())),
        ("a hop limit that a router changed", patched(solicitation.write(), 21, 254)),
        ("an extension header", patched(solicitation.write(), 20, 0)),
        ("another version of IP", patched(solicitation.write(), 14, 0x40)),
        ("a wrong checksum", patched(solicitation.write(), 56, 0)),
        ("a code other than zero", patched(solicitation.write(), 55, 1)),
        ("an option of length zero", patched(solicitation.write(), 79, 0)),
        ("an option beyond the end", patched(solicitation.write(), 79, 2)),
        ("nothing", Vec::new()),
    ];
    for (what, frame) in rows {
        assert_eq!(answers(&mut owner(), &frame), [], "{what}");
    }
}

#[test]
fn padding_after_a_packet_is_not_heeded() {
    for mut frame in [
        arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write(),
        ndp::Message::solicitation(THEIR_MAC, THEIR_V6, V6).write(),
    ] {
        frame.extend([0xa5; 40]);
        assert_eq!(answers(&mut owner(), &frame).len(), 1);
    }
}

#[test]
fn a_question_on_a_link_that_is_not_the_addresss_is_not_answered() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write();
    let mut responder = owner();
    responder.handle(ETH1, &request, START);
    responder.handle(99, &request, START);
    assert_eq!(drain(&mut responder, START), []);
}

#[test]
fn a_held_address_is_silent_until_then() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write();
    let mut responder = owner();
    responder.disown(V6.into());
    responder.hold(V4.into(), START + ms(150));
    responder.handle(ETH0, &request, START + ms(149));
    assert_eq!(drain(&mut responder, START + ms(149)), []);
    responder.handle(ETH0, &request, START + ms(150));
    let sent = drain(&mut responder, START + ms(150));
    assert_eq!(arp_of(&sent[0]).destination, THEIR_MAC);
    assert_eq!(responder.answered(), 1);
}

#[test]
fn a_question_heard_in_a_silence_is_not_answered_after_it() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write();
    let mut responder = owner();
    responder.hold(V4.into(), START + ms(1));
    responder.handle(ETH0, &request, START);
    assert_eq!(drain(&mut responder, START + ms(1)), []);
}

#[test]
fn an_answer_that_waits_is_dropped_when_the_address_is_given_up_or_held_or_its_link_goes() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write();
    let rows: [fn(&mut Responder); 4] = [
        |responder| responder.disown(V4.into()),
        |responder| responder.hold(V4.into(), START + ms(1)),
        |responder| responder.set_links(&[]),
        |responder| responder.own(V4.into(), &[ETH1], START + ms(10_000)),
    ];
    for change in rows {
        let mut responder = owner();
        responder.handle(ETH0, &request, START);
        change(&mut responder);
        assert_eq!(drain(&mut responder, START), []);
        assert_eq!(responder.answered(), 0);
    }
}

#[test]
fn questions_without_end_are_kept_within_bounds() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write();
    let mut responder = owner();
    for _ in 0..10 * MOST_ANSWERS {
        responder.handle(ETH0, &request, START);
    }
    assert_eq!(drain(&mut responder, START).len(), MOST_ANSWERS);
}

#[test]
fn a_flood_of_questions_does_not_stop_announcements() {
    let request = arp::Packet::request(THEIR_MAC, THEIR_V4, V4).write();
    let mut responder = owner();
    for number in 0..20 {
        responder.own(
            Ipv4Addr::new(203, 0, 113, 100 + number).into(),
            &[ETH0],
            START,
        );
    }
    // One poll for each question: there is always an answer that waits.
    responder.handle(ETH0, &request, START);
    for _ in 0..100 {
        responder.handle(ETH0, &request, START);
        responder.poll(START);
    }
    for number in 0..20 {
        assert!(responder.has_announced(Ipv4Addr::new(203, 0, 113, 100 + number).into()));
    }
}

#[test]
fn a_message_about_a_group_is_not_read() {
    let message = ndp::Message::solicitation(THEIR_MAC, THEIR_V6, ndp::ALL_NODES);
    assert_eq!(ndp::Message::read(&message.write()), None);
}
