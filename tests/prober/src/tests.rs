use super::*;

const ME: Mac = Mac([2, 0, 0, 0, 0, 9]);
const OWNER: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn subject(ip: &str, source: &str, sources: u32) -> Result<Subject> {
    let source = [source.parse().unwrap()];
    let sources = NonZeroU32::new(sources).unwrap();
    Subject::new(ip.parse().unwrap(), ME, &source, sources)
}

/// What the owner of an address would say.
fn reply(frame: &[u8]) -> Vec<u8> {
    if let Some(asked) = arp::Packet::read(frame) {
        arp::Packet::reply(OWNER, asked.target_ip, asked.sender_mac, asked.sender_ip).write()
    } else {
        let asked = ndp::Message::read(frame).unwrap();
        let asker = asked.link_layer.unwrap();
        ndp::Message::advertisement(OWNER, asked.target, asker, asked.from).write()
    }
}

#[test]
fn an_answer_names_the_source_of_its_question() {
    for (ip, first, last) in [
        ("192.0.2.1", "192.0.2.254", "192.0.3.1"),
        ("2001:db8::1", "2001:db8::1:fffe", "2001:db8::2:1"),
    ] {
        let subject = subject(ip, first, 4).unwrap();
        let sources: Vec<IpAddr> = subject.asks.iter().map(|(from, _)| *from).collect();
        assert_eq!(sources.len(), 4);
        assert_eq!(sources[0].to_string(), first);
        assert_eq!(sources[3].to_string(), last);
        for (from, ask) in &subject.asks {
            let expected = Answer {
                ip: ip.parse().unwrap(),
                mac: OWNER,
                to: Some(*from),
            };
            assert_eq!(answer(&reply(ask)), Some(expected));
            assert_eq!(answer(ask), None, "a question says nothing");
        }
        let announced = answer(&subject.claim).unwrap();
        assert_eq!((announced.ip.to_string(), announced.to), (ip.into(), None));
    }
}

#[test]
fn a_probe_for_duplicates_is_answered_to_nobody() {
    let target = "2001:db8::1".parse().unwrap();
    let told = ndp::Message::announcement(OWNER, target).write();
    assert_eq!(answer(&told).unwrap().to, None);
    let twice = arp::Packet::gratuitous_reply(OWNER, [192, 0, 2, 1].into()).write();
    assert_eq!(answer(&twice).unwrap().to, None);
}

#[test]
fn sources_beyond_the_last_address_are_refused() {
    let told = |source, sources| {
        let refused = subject("192.0.2.1", source, sources);
        refused.err().map(|error| error.to_string())
    };
    assert_eq!(told("255.255.255.254", 2), None);
    assert_eq!(
        told("255.255.255.254", 3).as_deref(),
        Some("fewer than 3 addresses follow 255.255.255.254")
    );
}

#[test]
fn beats_that_were_missed_are_not_made_up_for() {
    let mut beat = Beat::new(10, u64::MAX);
    let mut beats = Vec::new();
    for now in (0..2_000).filter(|now| !(500..555).contains(now)) {
        if beat.due(Duration::from_millis(now)) {
            beats.push(now);
        }
    }
    assert_eq!(beats[..3], [0, 10, 20]);
    assert_eq!(beats[49..53], [490, 555, 565, 575]);
    let closest = beats.windows(60).map(|some| some[59] - some[0]).min();
    assert_eq!(closest, Some(590));
    let mut late = Beat::new(10, u64::MAX);
    assert!(late.due(Duration::from_millis(3)));
    assert!(!late.due(Duration::from_millis(9)), "no two at once");
    assert!(
        late.due(Duration::from_millis(10)),
        "being late is made up for"
    );
}
