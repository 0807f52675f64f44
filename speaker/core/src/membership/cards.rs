//! Cards by gossip: for those whom the direct message did not reach. Which of two is newer is all
//! that is decided here.

use std::sync::mpsc;

use foca::{BroadcastHandler, Invalidates};
use rustc_hash::FxHashMap;

use crate::message::{Card, Identity};
use crate::score::hash;

/// Hands cards on by gossip: for those whom the direct message did not reach.
#[derive(Debug)]
pub(super) struct Cards {
    pub(super) newest: FxHashMap<u64, (u64, u32)>,
    pub(super) inbox: mpsc::Sender<Card>,
}

#[derive(Debug)]
pub(super) struct CardKey(u64);

impl Invalidates for CardKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl BroadcastHandler<Identity> for Cards {
    type Key = CardKey;
    type Error = postcard::Error;

    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&Identity>,
    ) -> Result<Option<CardKey>, postcard::Error> {
        let card: Card = postcard::from_bytes(data)?;
        let node = hash(&card.node);
        let newest = self.newest.entry(node).or_default();
        if *newest >= (card.boot, card.seq) {
            return Ok(None);
        }
        *newest = (card.boot, card.seq);
        if sender.is_some() {
            // It fails only when nobody reads, and then nobody wants it.
            let _ = self.inbox.send(card);
        }
        Ok(Some(CardKey(node)))
    }
}
