//! Programs of the classic Berkeley packet filter: the kernel hands over what is about an owned
//! address, and drops the rest.
//!
//! A program accepts at least what [`crate::arp`] and [`crate::ndp`] read and what is about an
//! address of its ranges, and never anything else than ARP and NDP. It does not verify checksums.

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

/// The program for these addresses, in any order. Addresses next to each other make a range; more
/// than 64 ranges are made fewer by joining those that are nearest to each other, so that somewhat
/// more is accepted. Without addresses, nothing is.
#[must_use]
pub fn program(addresses: impl IntoIterator<Item = IpAddr>) -> Filter {
    let instructions = program::write(&Ranges::of(addresses));
    Filter { instructions }
}
