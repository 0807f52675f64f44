//! Programs of the classic Berkeley packet filter: the kernel hands over what is about an owned
//! address, and drops the rest.
//!
//! Of frames for this station, everybody or a group, a program accepts all that [`crate::arp`] and
//! [`crate::ndp`] read and that are about an address of its ranges, and never anything else than ARP
//! and NDP. It does not verify checksums.

mod program;
mod ranges;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ranges::Ranges;

/// One instruction, as in the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A program for frames that begin with the Ethernet header (`SOCK_RAW`). Equal for equal addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Filter {
    instructions: Vec<Instruction>,
}

impl Filter {
    /// What to give to the kernel.
    #[must_use]
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }
}

/// How many ranges a program compares with at most: each costs some nanoseconds for each frame.
const MOST_RANGES: usize = 64;
/// How many bytes a socket may be charged for a program. Older kernels grant 20 KiB
/// (`net.core.optmem_max`), and while a program replaces another, both count.
const MOST_CHARGE: usize = 20 * 1024 / 2 - 256;

/// The program for these addresses, in any order. Addresses next to each other make a range; more
/// than 64 ranges, or fewer if they are long to compare with, are made fewer by joining those that are
/// nearest to each other, so that somewhat more is accepted. Without addresses, nothing is.
#[must_use]
pub fn program(addresses: impl IntoIterator<Item = IpAddr>) -> Filter {
    let instructions = program::write(&fitting(addresses));
    Filter { instructions }
}

/// The ranges whose program fits.
fn fitting(addresses: impl IntoIterator<Item = IpAddr>) -> Ranges {
    let all = Ranges::of(addresses);
    // One of each family always fits.
    let fits = |most: &usize| program::charge(&program::write(&all.at_most(*most))) <= MOST_CHARGE;
    let most = (2..=MOST_RANGES).rev().step_by(2).find(fits).unwrap_or(2);
    all.at_most(most)
}
