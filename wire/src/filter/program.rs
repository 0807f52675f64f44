//! The instructions. Every comparison that fails skips to the next range or to the end, so no jump
//! is longer than a range's own block.

use super::Instruction;
use super::ranges::{Range, Ranges};

/// Operations (linux/bpf_common.h): load a word, half-word or byte of the frame, or one of 16 words
/// that were remembered; combine; compare.
mod code {
    pub(super) const LOAD_WORD: u16 = 0x20;
    pub(super) const LOAD_HALF: u16 = 0x28;
    pub(super) const LOAD_BYTE: u16 = 0x30;
    pub(super) const RECALL: u16 = 0x60;
    pub(super) const REMEMBER: u16 = 0x02;
    pub(super) const AND: u16 = 0x54;
    pub(super) const EQUAL: u16 = 0x15;
    pub(super) const GREATER: u16 = 0x25;
    pub(super) const AT_LEAST: u16 = 0x35;
    pub(super) const SKIP: u16 = 0x05;
    pub(super) const RETURN: u16 = 0x06;
}

/// Where the kernel keeps what it took off the frame (linux/filter.h, `SKF_AD_OFF`).
const AUXILIARY: u32 = 0_u32.wrapping_sub(0x1000);
const PACKET_TYPE: u32 = AUXILIARY + 4;
const VLAN_TAG: u32 = AUXILIARY + 44;
const VLAN_TAG_PRESENT: u32 = AUXILIARY + 48;
/// For this station, for everybody and for a group are less (linux/if_packet.h); greater are frames
/// that this machine sends.
const PACKET_OTHERHOST: u32 = 3;
/// The part of a VLAN tag that says which one; zero is none, only a priority.
const VLAN_ID: u32 = 0xfff;

/// How much of an accepted frame is handed over: all.
const ACCEPT: u32 = 0x4_0000;
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
    // Frames of a VLAN belong to that VLAN's own interface. A socket for every protocol sees the tag, one
    // for one protocol sees, without the tag, the frames of a VLAN that has no interface, as another
    // station's. Whether there is a tag is asked first: Linux 4.20 to 6.1 leave it in place when they
    // hand a frame to its VLAN's interface.
    let mut all = vec![
        load(code::LOAD_WORD, PACKET_TYPE),
        jump(code::AT_LEAST, PACKET_OTHERHOST, 5, 0),
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

/// How many bytes a socket is charged for a program at most: eight for each of the instructions that
/// the kernel makes of ours (`bpf_convert_filter` since Linux 4.18), and a header.
pub(super) fn charge(instructions: &[Instruction]) -> usize {
    const HEADER_AND_PROLOGUE: usize = 160;
    let made_of = |step: &Instruction| match step.code {
        code::LOAD_WORD if step.k >= AUXILIARY => 3,
        code::LOAD_WORD | code::LOAD_HALF | code::LOAD_BYTE => 14,
        code::RETURN => 2,
        // An operand with the highest bit set goes through a register; two branches are two jumps.
        code::EQUAL | code::GREATER | code::AT_LEAST => {
            1 + usize::from(step.k >> 31 == 1) + usize::from(step.jt > 0 && step.jf > 0)
        }
        _ => 1,
    };
    let made: usize = instructions.iter().map(made_of).sum();
    HEADER_AND_PROLOGUE.saturating_add(made.saturating_mul(8))
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
    // Loading from the frame costs the kernel 14 instructions, from memory one.
    for (slot, at) in (0..).zip(at::NDP_TARGET) {
        body.extend([load(code::LOAD_WORD, at), op(code::REMEMBER, slot)]);
    }
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
    let bounds: Vec<(u32, u32, u32)> = (0..)
        .zip(words(first))
        .zip(words(last))
        .map(|((slot, first), last)| (slot, first, last))
        .collect();
    let same = bounds.iter().take_while(|(_, first, last)| first == last);
    let (same, rest) = bounds.split_at_checked(same.count()).unwrap_or_default();

    let mut lower: Vec<(Instruction, To, To)> = Vec::new();
    for (slot, word, _) in same {
        lower.push((op(code::RECALL, *slot), To::On, To::On));
        lower.push((jump(code::EQUAL, *word, 0, 0), To::On, To::Past));
    }
    let mut upper: Vec<(Instruction, To, To)> = Vec::new();
    for (index, (slot, first, last)) in rest.iter().enumerate() {
        let ends = index + 1 == rest.len();
        lower.push((op(code::RECALL, *slot), To::On, To::On));
        upper.push((op(code::RECALL, *slot), To::On, To::On));
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
