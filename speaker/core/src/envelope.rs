//! How a datagram is sealed: `[version u8][key id u32][nonce 24 bytes][XChaCha20-Poly1305]`.
//!
//! The first five bytes and the address that it is sent to are authenticated with it, so that
//! nobody can send it on to another speaker. Nonces are random: 24 bytes are enough for that, where
//! the 12 of plain ChaCha20-Poly1305 or AES-GCM would need a counter that survives restarts and is
//! shared by every node, because all seal with one key.
//!
//! Whether a datagram comes for a second time is for [`Window`] to say.

use std::net::{IpAddr, SocketAddr};

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{Key, KeyInit as _, XChaCha20Poly1305, XNonce};

use crate::keys::{self, KeyRing};

const VERSION: u8 = 1;
const HEADER: usize = 5;
const NONCE: usize = 24;
/// What an envelope adds to what is in it.
pub(crate) const OVERHEAD: usize = HEADER + NONCE + 16;

/// Header and address: what is authenticated and not encrypted.
fn associated(header: [u8; HEADER], to: SocketAddr) -> [u8; HEADER + 18] {
    let ip = match to.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let bytes = (header.into_iter())
        .chain(ip.octets())
        .chain(to.port().to_be_bytes());
    let mut data = [0; HEADER + 18];
    data.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
    data
}

fn cipher(key: &keys::Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key.secret()))
}

/// Seals for that address; None without a key. The nonce must come from a cryptographic generator.
pub(crate) fn seal(
    ring: &KeyRing,
    wall: i64,
    to: SocketAddr,
    nonce: [u8; NONCE],
    plain: &[u8],
) -> Option<Vec<u8>> {
    let key = ring.sealing(wall)?;
    let [a, b, c, d] = key.id().to_be_bytes();
    let header = [VERSION, a, b, c, d];
    let aad = associated(header, to);
    let payload = Payload {
        msg: plain,
        aad: &aad,
    };
    let sealed = cipher(key).encrypt(&XNonce::from(nonce), payload).ok()?;
    let mut bytes = Vec::with_capacity(plain.len() + OVERHEAD);
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    Some(bytes)
}

/// Opens what was sealed for us at that address by any of the keys.
pub(crate) fn open(ring: &KeyRing, to: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
    let [version, a, b, c, d] = *header;
    if version != VERSION {
        return None;
    }
    let aad = associated(*header, to);
    ring.opening(u32::from_be_bytes([a, b, c, d]))
        .find_map(|key| {
            let payload = Payload {
                msg: sealed,
                aad: &aad,
            };
            cipher(key).decrypt(&XNonce::from(*nonce), payload).ok()
        })
}

/// Which of one sender's datagrams have come: each counts once. One that comes later than 64
/// others is refused like one that came before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    highest: u64,
    /// Bit n: `highest - n` has come.
    seen: u64,
}

impl Window {
    /// Whether that one had not come yet; it has now.
    pub(crate) fn admit(&mut self, counter: u64) -> bool {
        if self.seen == 0 || counter > self.highest {
            let ahead = counter.saturating_sub(self.highest);
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0) | 1;
            self.highest = counter;
            return true;
        }
        let behind = u32::try_from(self.highest - counter).unwrap_or(u32::MAX);
        let Some(bit) = 1_u64.checked_shl(behind) else {
            return false;
        };
        let is_new = self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "test code: a broken assumption must end the test"
    )]

    use proptest::prelude::*;

    use super::*;
    use crate::keys::Key;

    fn at() -> SocketAddr {
        "10.0.0.2:7947".parse().unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_whom_it_was_meant_only() {
        let ring = KeyRing::new(vec![Key::new(0, [7; 32])]);
        let bytes = seal(&ring, 0, at(), [1; 24], b"hello").unwrap();
        assert_eq!(bytes.len(), 5 + OVERHEAD);
        assert_eq!(open(&ring, at(), &bytes).unwrap(), b"hello");
        let other = "10.0.0.3:7947".parse().unwrap();
        assert_eq!(open(&ring, other, &bytes), None);
        let stranger = KeyRing::new(vec![Key::new(0, [8; 32])]);
        assert_eq!(open(&stranger, at(), &bytes), None);
    }

    #[test]
    fn a_changed_bit_anywhere_is_refused() {
        let ring = KeyRing::new(vec![Key::new(0, [7; 32])]);
        let bytes = seal(&ring, 0, at(), [1; 24], b"hello").unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&ring, at(), &bytes), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(open(&ring, at(), &bytes[..len]), None);
        }
    }

    #[test]
    fn keys_rotate_while_nodes_differ_in_files_and_clocks() {
        let (old, new) = (Key::new(0, [1; 32]), Key::new(1_000, [2; 32]));
        let before = KeyRing::new(vec![old.clone()]);
        let both = KeyRing::new(vec![new.clone(), old.clone()]);
        let after = KeyRing::new(vec![new.clone()]);
        let speak = |from: &KeyRing, wall, to: &KeyRing| {
            let bytes = seal(from, wall, at(), [3; 24], b"x").unwrap();
            open(to, at(), &bytes).is_some()
        };
        // The new file has arrived at one and not yet at the other.
        assert!(speak(&both, 900, &before) && speak(&before, 900, &both));
        // It has arrived at both; one's clock is behind.
        assert!(speak(&both, 1_001, &both) && speak(&both, 999, &both));
        // The old one was deleted at one.
        assert!(speak(&both, 1_001, &after) && speak(&after, 1_001, &both));
        // Before its time the only key is used.
        assert!(speak(&after, 5, &both));
        assert_eq!(both.sealing(999), Some(&old));
        assert_eq!(both.sealing(1_000), Some(&new));
        assert_eq!(KeyRing::default().sealing(0), None);
    }

    #[test]
    fn a_key_does_not_show_in_logs() {
        let shown = format!("{:?}", Key::new(0, [0xab; 32]));
        assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
    }

    proptest! {
        #[test]
        fn nothing_is_admitted_twice(counters in proptest::collection::vec(0_u64..200, 0..300)) {
            let mut window = Window::default();
            let mut admitted = std::collections::BTreeSet::new();
            let mut highest = None;
            for counter in counters {
                let is_recent = highest.is_none_or(|highest: u64| counter + 64 > highest);
                let is_new = !admitted.contains(&counter);
                let admits = window.admit(counter);
                prop_assert_eq!(admits, is_recent && is_new, "{}", counter);
                if admits {
                    admitted.insert(counter);
                    highest = highest.max(Some(counter));
                }
            }
        }

        #[test]
        fn no_bytes_end_the_process(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let ring = KeyRing::new(vec![Key::new(0, [7; 32])]);
            prop_assert_eq!(open(&ring, at(), &bytes), None);
        }
    }
}
