//! Where the engine leaves what it says to the announcer. The newest word about each Service counts,
//! so it is never longer than there are Services, and neither side waits for the other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use model::ServiceKey;
use tokio::sync::Notify;

use crate::core::announce::{Input, Policies, Wish, Word};

/// The desk.
#[derive(Debug, Default)]
pub(in crate::shell) struct Desk {
    papers: Mutex<Papers>,
    ring: Notify,
}

/// In the order in which they are read.
#[derive(Debug, Default)]
struct Papers {
    void: bool,
    all: Option<(Policies, Vec<Arc<Wish>>)>,
    policies: Option<Policies>,
    wishes: HashMap<ServiceKey, Option<Arc<Wish>>>,
}

impl Desk {
    /// Leaves a word.
    pub(in crate::shell) fn put(&self, word: Word) {
        let mut papers = self.papers.lock().unwrap_or_else(PoisonError::into_inner);
        match word {
            Word::All(policies, wishes) => {
                *papers = Papers {
                    void: papers.void,
                    all: Some((policies, wishes)),
                    ..Papers::default()
                }
            }
            Word::Policies(policies) => papers.policies = Some(policies),
            Word::Wish(key, wish) => drop(papers.wishes.insert(key, wish)),
        }
        drop(papers);
        self.ring.notify_one();
    }

    /// Everything that was said is void.
    pub(in crate::shell) fn void(&self) {
        let mut papers = self.papers.lock().unwrap_or_else(PoisonError::into_inner);
        *papers = Papers {
            void: true,
            ..Papers::default()
        };
        drop(papers);
        self.ring.notify_one();
    }

    /// Takes everything, to be heard in this order.
    pub(super) fn take(&self) -> Vec<Input> {
        let mut papers = self.papers.lock().unwrap_or_else(PoisonError::into_inner);
        let papers = std::mem::take(&mut *papers);
        let all = papers
            .all
            .map(|(policies, wishes)| Word::All(policies, wishes));
        let policies = papers.policies.map(Word::Policies);
        let wishes = papers.wishes.into_iter();
        let wishes = wishes.map(|(key, wish)| Word::Wish(key, wish));
        let words = all.into_iter().chain(policies).chain(wishes);
        let void = papers.void.then_some(Input::Void);
        void.into_iter().chain(words.map(Input::Word)).collect()
    }

    /// Until something may be there. One task waits; dropped and called again it misses nothing.
    pub(super) async fn filled(&self) {
        self.ring.notified().await;
    }
}
