//! Objects in the core's words. Pure. Names that thousands of objects repeat (pools, nodes, Services)
//! are kept once.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use speaker_core::{Address, Announcement, Peer, PoolWeight};

/// The names that are in use.
#[derive(Debug, Default)]
pub(super) struct Names(FxHashSet<Arc<str>>);

impl Names {
    fn name(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        new
    }

    fn names(&mut self, names: &[String]) -> Vec<Arc<str>> {
        names.iter().map(|name| self.name(name)).collect()
    }

    /// Forgets those that only this table has left.
    pub(super) fn forget_unused(&mut self) {
        self.0.retain(|name| Arc::strong_count(name) > 1);
        self.0.shrink_to_fit();
    }
}

/// What can be said in the core's words.
pub(super) trait Words {
    /// The core's type.
    type Words;

    /// The same, or the sentence that says why not.
    fn words(&self, names: &mut Names) -> Result<Self::Words, String>;
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is no IP address"))
}

impl Words for crds::AnnouncementSpec {
    type Words = Announcement;

    fn words(&self, names: &mut Names) -> Result<Announcement, String> {
        let address = |one: &crds::AnnouncedAddress| {
            Ok(Address {
                ip: ip(&one.ip)?,
                interfaces: one.interfaces.as_ref().map(|globs| names.names(globs)),
            })
        };
        let addresses = self
            .addresses
            .iter()
            .map(address)
            .collect::<Result<_, String>>()?;
        Ok(Announcement {
            addresses,
            pools: names.names(&self.pools),
            services: names.names(&self.services),
            nodes: self.nodes.as_ref().map(|nodes| names.names(nodes)),
        })
    }
}

impl Words for crds::SpeakerSpec {
    type Words = Peer;

    fn words(&self, names: &mut Names) -> Result<Peer, String> {
        let pool = |pool: &crds::SpeakerPool| PoolWeight {
            name: names.name(&pool.name),
            weight: u8::try_from(pool.weight).unwrap_or(u8::MAX),
        };
        let pools = self.pools.iter().map(pool).collect();
        Ok(Peer {
            addresses: (self.addresses.iter())
                .map(|text| ip(text))
                .collect::<Result<_, _>>()?,
            pools,
            last_choice: self.last_choice,
            excluded: self.excluded.is_some(),
        })
    }
}
