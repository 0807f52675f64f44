//! What the fuzz target checks, without a fuzzer: frames that were kept, and mutations of them.
//! A kept frame's name begins with what it leads to.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code: a broken assumption must end the test"
)]

use std::fs;
use std::path::Path;

#[path = "../fuzz/bpf.rs"]
mod bpf;
#[path = "../fuzz/frame.rs"]
mod frame;

const MUTATIONS: usize = 200_000;

/// Name and bytes, by name: some recorded from Linux, some made by hand.
fn kept() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    let mut all: Vec<(String, Vec<u8>)> = (fs::read_dir(folder).unwrap())
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_kept_frame_leads_to_what_its_name_says() {
    let all = kept();
    assert!(all.len() > 40);
    for (name, data) in all {
        let outcome = frame::frame(&data);
        let expected = match name.split('-').next().unwrap() {
            "answered" => (true, false),
            "claimed" => (false, true),
            "probed" => (true, true),
            "ignored" => (false, false),
            other => panic!("{other} of {name}"),
        };
        assert_eq!(
            (outcome.answered, outcome.claim.is_some()),
            expected,
            "{name}"
        );
    }
}

/// Sets the checksum of what could be an ICMPv6 message, or else none would be read.
fn seal(data: &mut [u8]) {
    let Some(length) = data
        .get(18..20)
        .map(|two| usize::from(two[0]) << 8 | usize::from(two[1]))
    else {
        return;
    };
    if data.len() < 58 || data.len() < 54 + length || length < 4 {
        return;
    }
    data[56..58].fill(0);
    let end = 54 + length;
    let mut sum = length as u64 + 58;
    for (index, byte) in data[22..end].iter().enumerate() {
        sum += u64::from(*byte) << if index % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [high, low] = (!(sum as u16)).to_be_bytes();
    data[56] = high;
    data[57] = low;
}

fn mutate(data: &mut Vec<u8>, other: &[u8], rng: &mut fastrand::Rng) {
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(0..=data.len());
        match rng.u8(0..8) {
            0 | 1 if at < data.len() => data[at] ^= 1 << rng.u8(0..8),
            2 if at < data.len() => data[at] = rng.u8(..),
            3 if at < data.len() => data[at] = *rng.choice(&[0, 1, 2, 0x7f, 0x80, 0xff]).unwrap(),
            4 => data.truncate(at),
            5 => {
                let count = rng.usize(0..64);
                let more = std::iter::repeat_with(|| rng.u8(..)).take(count);
                data.extend(more.collect::<Vec<u8>>());
            }
            6 => {
                let from = rng.usize(0..=other.len());
                data.truncate(at);
                data.extend(&other[from..]);
            }
            _ => {
                let end = (at + rng.usize(0..9)).min(data.len());
                data.drain(at..end);
            }
        }
    }
    if rng.bool() {
        seal(data);
    }
}

#[test]
fn no_mutation_of_a_frame_breaks_anything() {
    let all = kept();
    let mut rng = fastrand::Rng::with_seed(6);
    let mut led_to_something = 0;
    for _ in 0..MUTATIONS {
        let (_, mut data) = rng.choice(&all).unwrap().clone();
        let (_, other) = rng.choice(&all).unwrap();
        mutate(&mut data, other, &mut rng);
        let outcome = frame::frame(&data);
        led_to_something += usize::from(outcome.answered || outcome.claim.is_some());
    }
    // Otherwise all of them were noise.
    assert!(led_to_something > MUTATIONS / 50, "{led_to_something}");
}

#[test]
fn any_bytes_behind_any_ethernet_type_break_nothing() {
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..MUTATIONS / 10 {
        let count = rng.usize(0..200);
        let mut data: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(count).collect();
        let types: [[u8; 2]; 2] = [[0x08, 0x06], [0x86, 0xdd]];
        if let Some(place) = data.get_mut(12..14) {
            place.copy_from_slice(&types[round % 2]);
        }
        frame::frame(&data);
    }
}
