//! The keys that speakers share: which of them seals, and how one is told from another. All open.
//! No lock-step and no agreement on time is needed to rotate: a key is accepted as soon as it is
//! in the folder, and seals from the time in its name on.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// One shared secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// From when on it seals, in Unix seconds.
    pub from: i64,
    id: u32,
    secret: [u8; KEY_LEN],
}

impl Key {
    /// A key that seals from then on.
    #[must_use]
    pub fn new(from: i64, secret: [u8; KEY_LEN]) -> Self {
        let digest = Sha256::digest(secret);
        let mut id = [0; 4];
        id.iter_mut().zip(digest).for_each(|(to, byte)| *to = byte);
        Self {
            from,
            id: u32::from_be_bytes(id),
            secret,
        }
    }

    /// The first four bytes of its SHA-256.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The secret itself.
    pub(crate) const fn secret(&self) -> &[u8; KEY_LEN] {
        &self.secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({:08x} from {})", self.id, self.from)
    }
}

/// All keys in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<Key>,
}

impl KeyRing {
    /// Of these keys, in any order.
    #[must_use]
    pub fn new(mut keys: Vec<Key>) -> Self {
        keys.sort_by_key(|key| (key.from, key.id));
        Self { keys }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that seals: the newest whose time has come, before the first the oldest.
    #[must_use]
    pub fn sealing(&self, wall: i64) -> Option<&Key> {
        let come = self.keys.iter().rev().find(|key| key.from <= wall);
        come.or_else(|| self.keys.first())
    }

    /// Those of that id: two keys may share one.
    pub fn opening(&self, id: u32) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.id == id)
    }
}
