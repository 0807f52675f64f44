//! What must hold for any bytes from the network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::time::Duration;

use wire::{Claim, Link, Mac, Responder, Settings, arp, filter, ndp};

use crate::bpf;

const LINK: u32 = 1;
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const NOW: Duration = Duration::from_secs(1);

/// What a frame led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) answered: bool,
    pub(crate) claim: Option<Claim>,
}

/// Hears the frame as the owner of an address of each family.
pub(crate) fn frame(data: &[u8]) -> Outcome {
    what_is_read_can_be_written(data);
    let mut responder = owner();
    let claim = responder.handle(LINK, data, NOW);
    let sent = responder.poll(NOW);
    assert!(responder.poll(NOW).is_none(), "two answers to one frame");
    if let Some(claim) = claim {
        assert!(is_owned(claim.ip) && claim.link == LINK && claim.mac != MAC);
    }
    if let Some(sent) = &sent {
        assert_eq!(sent.link, LINK);
        let speaks = speaks_for(&sent.bytes);
        assert!(speaks.is_some_and(is_owned), "speaks for {speaks:?}");
    }
    let answered = sent.is_some();
    if answered || claim.is_some() {
        assert!(passes(data), "the kernel would have dropped it");
    }
    Outcome { answered, claim }
}

fn what_is_read_can_be_written(data: &[u8]) {
    if let Some(packet) = arp::Packet::read(data) {
        assert_eq!(arp::Packet::read(&packet.write()), Some(packet));
        assert_eq!(ndp::Message::read(data), None);
    }
    if let Some(message) = ndp::Message::read(data) {
        assert_eq!(ndp::Message::read(&message.write()), Some(message));
    }
}

/// An owner that has nothing to announce now.
fn owner() -> Responder {
    let mut responder = Responder::new(Settings::default(), 0);
    responder.set_links(&[Link { id: LINK, mac: MAC }]);
    for ip in [V4.into(), V6.into()] {
        responder.own(ip, &[LINK], NOW);
    }
    while responder.poll(NOW).is_some() {}
    responder
}

fn is_owned(ip: IpAddr) -> bool {
    ip == V4 || ip == V6
}

/// Which address a frame of ours says is ours.
fn speaks_for(frame: &[u8]) -> Option<IpAddr> {
    if let Some(packet) = arp::Packet::read(frame) {
        assert_eq!((packet.source, packet.sender_mac), (MAC, MAC));
        return Some(packet.sender_ip.into());
    }
    let message = ndp::Message::read(frame)?;
    assert_eq!((message.source, message.link_layer), (MAC, Some(MAC)));
    Some(message.target.into())
}

fn passes(data: &[u8]) -> bool {
    static PROGRAM: OnceLock<Vec<bpf::Instruction>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let filter = filter::program([V4.into(), V6.into()]);
        (filter.instructions().iter())
            .map(|step| (step.code, step.jt, step.jf, step.k))
            .collect()
    });
    matches!(bpf::run(program, data, bpf::Arrival::default()), Ok(accepted) if accepted > 0)
}
