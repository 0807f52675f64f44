//! The instructions. Every comparison that fails skips to the next range or to the end, so no jump
//! is longer than a range's own block.

use super::Instruction;
use super::ranges::{Range, Ranges};

/// Operations (linux/bpf_common.h): load a word, half-word or byte of the frame; combine; compare.
pub(super) mod code {
    pub(crate) const LOAD_WORD: u16 = 0x20;
    pub(crate) const LOAD_HALF: u16 = 0x28;
    pub(crate) const LOAD_BYTE: u16 = 0x30;
    pub(crate) const AND: u16 = 0x54;
    pub(crate) const EQUAL: u16 = 0x15;
    pub(crate) const GREATER: u16 = 0x25;
    pub(crate) const AT_LEAST: u16 = 0x35;
    pub(crate) const SKIP: u16 = 0x05;
    pub(crate) const RETURN: u16 = 0x06;
}

/// Where the kernel keeps what it took off the frame (linux/filter.h, `SKF_AD_OFF`).
const AUXILIARY: u32 = 0_u32.wrapping_sub(0x1000);
pub(super) const VLAN_TAG: u32 = AUXILIARY + 44;
pub(super) const VLAN_TAG_PRESENT: u32 = AUXILIARY + 48;
/// The part of a VLAN tag that says which one; zero is none, only a priority.
const VLAN_ID: u32 = 0xfff;

/// How much of an accepted frame is handed over: all.
pub(super) const ACCEPT: u32 = 0x4_0000;
const REJECT: u32 = 0;

/// A load beyond the end of a frame rejects it.
mod at {
    pub(super) const ETHER_TYPE: u32 = 12;
    pub(super) const ARP_FORM: u32 = 14;
    pub(super) const ARP_LENGTHS: u32 = 18;
    pub(super) const ARP_OPERATION: u32 = 20;
    pub(super) const ARP_SENDER: u32 = 28;
    pub(super) const ARP_TARGET: u32 = 38;
    pub(super) const IP_VERSION: u32 = 14;
    pub(super) const IP_NEXT_HEADER: u32 = 20;
    pub(super) const IP_HOP_LIMIT: u32 = 21;
    pub(super) const ICMP_TYPE_AND_CODE: u32 = 54;
    pub(super) const NDP_TARGET: [u32; 4] = [62, 66, 70, 74];
}

pub(super) fn write(ranges: &Ranges) -> Vec<Instruction> {
    let v4 = (!ranges.v4.is_empty()).then(|| arp(&ranges.v4));
    let v6 = (!ranges.v6.is_empty()).then(|| ndp(&ranges.v6));
    if v4.is_none() && v6.is_none() {
        return vec![ret(REJECT)];
    }
    // Frames of a VLAN belong to that VLAN's own interface. Whether there is a tag is asked first:
    // Linux 4.20 to 6.1 leave the tag of a frame in place when they hand it to that interface.
    let mut all = vec![
        load(code::LOAD_WORD, VLAN_TAG_PRESENT),
        jump(code::EQUAL, 0, 4, 0),
        load(code::LOAD_WORD, VLAN_TAG),
        op(code::AND, VLAN_ID),
        jump(code::EQUAL, 0, 1, 0),
        ret(REJECT),
    ];
    for (ether_type, body) in [(0x0806, v4), (0x86dd, v6)] {
        let Some(body) = body else { continue };
        // A conditional jump reaches 255 instructions only, and a body may have more.
        all.push(load(code::LOAD_HALF, at::ETHER_TYPE));
        all.push(jump(code::EQUAL, ether_type, 1, 0));
        all.push(skip(body.len()));
        all.extend(body);
    }
    all.push(ret(REJECT));
    all
}

/// ARP for IPv4 on Ethernet, a request or a reply, whose target or sender is in a range.
fn arp(ranges: &[Range<u32>]) -> Vec<Instruction> {
    let mut body = Vec::new();
    expect(&mut body, load(code::LOAD_WORD, at::ARP_FORM), 0x0001_0800);
    expect(&mut body, load(code::LOAD_HALF, at::ARP_LENGTHS), 0x0604);
    body.extend([
        load(code::LOAD_HALF, at::ARP_OPERATION),
        jump(code::EQUAL, 1, 2, 0),
        jump(code::EQUAL, 2, 1, 0),
        ret(REJECT),
    ]);
    // The target is last in the packet: loaded first, it proves that all of it is there.
    for field in [at::ARP_TARGET, at::ARP_SENDER] {
        body.push(load(code::LOAD_WORD, field));
        for (first, last) in ranges {
            body.extend([
                jump(code::GREATER, *last, 2, 0),
                jump(code::AT_LEAST, *first, 0, 1),
                ret(ACCEPT),
            ]);
        }
    }
    body.push(ret(REJECT));
    body
}

/// A solicitation or an advertisement right behind the IPv6 header whose target is in a range.
fn ndp(ranges: &[Range<u128>]) -> Vec<Instruction> {
    let mut body = vec![
        load(code::LOAD_BYTE, at::IP_VERSION),
        op(code::AND, 0xf0),
        jump(code::EQUAL, 0x60, 1, 0),
        ret(REJECT),
    ];
    expect(&mut body, load(code::LOAD_BYTE, at::IP_NEXT_HEADER), 58);
    expect(&mut body, load(code::LOAD_BYTE, at::IP_HOP_LIMIT), 255);
    body.extend([
        load(code::LOAD_HALF, at::ICMP_TYPE_AND_CODE),
        jump(code::EQUAL, 135 << 8, 2, 0),
        jump(code::EQUAL, 136 << 8, 1, 0),
        ret(REJECT),
    ]);
    // The last word proves that all of the target is there.
    let [.., last_word] = at::NDP_TARGET;
    body.push(load(code::LOAD_WORD, last_word));
    for range in ranges {
        body.extend(target_in(*range));
    }
    body.push(ret(REJECT));
    body
}

/// Where a step of a block goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    /// The instruction after it.
    On,
    /// The first one of the second half.
    Upper,
    /// The last one of the block, which accepts.
    Accept,
    /// Behind the block.
    Past,
}

/// Accepts if the target lies in the range, word by word.
fn target_in((first, last): Range<u128>) -> Vec<Instruction> {
    let words = |bound: u128| -> [u32; 4] {
        [96, 64, 32, 0].map(|shift| u32::try_from((bound >> shift) & 0xffff_ffff).unwrap_or(0))
    };
    let bounds: Vec<(u32, u32, u32)> = (at::NDP_TARGET.into_iter())
        .zip(words(first))
        .zip(words(last))
        .map(|((at, first), last)| (at, first, last))
        .collect();
    let same = bounds.iter().take_while(|(_, first, last)| first == last);
    let (same, rest) = bounds.split_at_checked(same.count()).unwrap_or_default();

    let mut lower: Vec<(Instruction, To, To)> = Vec::new();
    for (at, word, _) in same {
        lower.push((load(code::LOAD_WORD, *at), To::On, To::On));
        lower.push((jump(code::EQUAL, *word, 0, 0), To::On, To::Past));
    }
    let mut upper: Vec<(Instruction, To, To)> = Vec::new();
    for (index, (at, first, last)) in rest.iter().enumerate() {
        let ends = index + 1 == rest.len();
        lower.push((load(code::LOAD_WORD, *at), To::On, To::On));
        upper.push((load(code::LOAD_WORD, *at), To::On, To::On));
        if ends {
            lower.push((jump(code::AT_LEAST, *first, 0, 0), To::Upper, To::Past));
            upper.push((jump(code::GREATER, *last, 0, 0), To::Past, To::Accept));
        } else {
            lower.push((jump(code::GREATER, *first, 0, 0), To::Upper, To::On));
            lower.push((jump(code::EQUAL, *first, 0, 0), To::On, To::Past));
            upper.push((jump(code::GREATER, *last, 0, 0), To::Past, To::On));
            upper.push((jump(code::EQUAL, *last, 0, 0), To::On, To::Accept));
        }
    }
    let middle = lower.len();
    let accept = middle + upper.len();
    let mut block = Vec::with_capacity(accept + 1);
    for (position, (step, yes, no)) in lower.into_iter().chain(upper).enumerate() {
        let distance = |to: To| {
            let destination = match to {
                To::On => position + 1,
                To::Upper => middle,
                To::Accept => accept,
                To::Past => accept + 1,
            };
            // A block has at most 23 instructions.
            u8::try_from(destination - position - 1).unwrap_or(u8::MAX)
        };
        block.push(Instruction {
            jt: distance(yes),
            jf: distance(no),
            ..step
        });
    }
    block.push(ret(ACCEPT));
    block
}

fn expect(body: &mut Vec<Instruction>, load: Instruction, value: u32) {
    body.extend([load, jump(code::EQUAL, value, 1, 0), ret(REJECT)]);
}

const fn op(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

const fn load(code: u16, at: u32) -> Instruction {
    op(code, at)
}

const fn ret(k: u32) -> Instruction {
    op(code::RETURN, k)
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Skips so many instructions.
fn skip(count: usize) -> Instruction {
    op(code::SKIP, u32::try_from(count).unwrap_or(u32::MAX))
}
