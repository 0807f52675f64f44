#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code: a broken assumption must end the test"
)]

mod announcing;
mod answering;
mod claims;
mod sequences;

use std::net::Ipv4Addr;

use super::*;

pub(super) const ETH0: u32 = 1;
pub(super) const ETH1: u32 = 2;
pub(super) const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(super) const OUR_OTHER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// A client's, or a stranger's.
pub(super) const THEIR_MAC: Mac = Mac([6, 0, 0, 0, 0, 9]);
pub(super) const V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
pub(super) const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
pub(super) const THEIR_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);
pub(super) const THEIR_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);
const START: Duration = Duration::from_secs(1000);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn both_links() -> [Link; 2] {
    [
        Link {
            id: ETH0,
            mac: OUR_MAC,
        },
        Link {
            id: ETH1,
            mac: OUR_OTHER_MAC,
        },
    ]
}

/// One with two links that owns nothing.
fn idle() -> Responder {
    let mut responder = Responder::new(Settings::default(), 7);
    responder.set_links(&both_links());
    responder
}

/// One that owns an address of each family on the first link, and has announced them.
fn owner() -> Responder {
    let mut responder = idle();
    responder.own(V4.into(), &[ETH0], START);
    responder.own(V6.into(), &[ETH0], START);
    drain(&mut responder, START);
    responder
}

fn drain(responder: &mut Responder, now: Duration) -> Vec<Frame> {
    let frames: Vec<Frame> = std::iter::from_fn(|| responder.poll(now))
        .take(100_000)
        .collect();
    assert!(frames.len() < 100_000, "polling does not end");
    frames
}

fn arp_of(frame: &Frame) -> arp::Packet {
    arp::Packet::read(&frame.bytes).unwrap()
}

fn ndp_of(frame: &Frame) -> ndp::Message {
    ndp::Message::read(&frame.bytes).unwrap()
}

/// Which address a frame of ours speaks for.
fn subject(frame: &Frame) -> IpAddr {
    match Heard::read(&frame.bytes).unwrap() {
        Heard::Arp(packet) => packet.sender_ip.into(),
        Heard::Ndp(message) => message.target.into(),
    }
}
