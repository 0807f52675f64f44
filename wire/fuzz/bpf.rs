//! The classic Berkeley packet filter, as far as our programs use it, for tests. What the kernel
//! would refuse is an error.

/// Operation, skipped if it holds, skipped if it does not, operand.
pub(crate) type Instruction = (u16, u8, u8, u32);

/// The kernel's bound (`BPF_MAXINSNS`).
const MOST: usize = 4096;
/// Where the kernel keeps whom a frame is for, the VLAN tag that it took off, and whether it did.
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const VLAN_TAG: u32 = 0xffff_f000 + 44;
const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;

/// What the kernel knows about a frame besides its bytes. By default it is for this station.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    /// As in linux/if_packet.h.
    pub(crate) packet_type: u8,
    /// The tag that was taken off.
    pub(crate) vlan: Option<u16>,
}

/// How many bytes of the frame are accepted.
pub(crate) fn run(program: &[Instruction], frame: &[u8], arrival: Arrival) -> Result<u32, String> {
    if program.is_empty() || program.len() > MOST {
        return Err(format!("{} instructions", program.len()));
    }
    let mut accumulator: u32 = 0;
    let mut memory = [0_u32; 16];
    let mut at: usize = 0;
    loop {
        let (code, jt, jf, k) = *program.get(at).ok_or("runs off the end")?;
        at += 1;
        let branch = |holds: bool| usize::from(if holds { jt } else { jf });
        match code {
            0x06 => return Ok(k),
            0x05 => at += usize::try_from(k).map_err(|error| error.to_string())?,
            0x02 | 0x60 => {
                let slot = usize::try_from(k).map_err(|error| error.to_string())?;
                let place = memory.get_mut(slot).ok_or("no such memory")?;
                match code {
                    0x02 => *place = accumulator,
                    _ => accumulator = *place,
                }
            }
            0x54 => accumulator &= k,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x20 if k == PACKET_TYPE => accumulator = arrival.packet_type.into(),
            0x20 if k == VLAN_TAG => accumulator = arrival.vlan.unwrap_or(0).into(),
            0x20 if k == VLAN_TAG_PRESENT => accumulator = arrival.vlan.is_some().into(),
            0x20 | 0x28 | 0x30 => {
                let size = match code {
                    0x20 => 4,
                    0x28 => 2,
                    _ => 1,
                };
                let first = usize::try_from(k).map_err(|error| error.to_string())?;
                // Beyond the end, the kernel rejects the frame.
                let Some(bytes) = frame.get(first..first.saturating_add(size)) else {
                    return Ok(0);
                };
                accumulator = bytes
                    .iter()
                    .fold(0, |value, byte| (value << 8) | u32::from(*byte));
            }
            _ => return Err(format!("unknown operation {code:#x}")),
        }
    }
}
