//! What is written: the difference between what is wanted and what is there, object by object.

use super::*;

impl Announcer {
    /// Writes what differs, as far as there is room.
    pub(super) fn write(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let over: Vec<Name> = self
            .busy
            .iter()
            .filter(|(_, busy)| match busy {
                Busy::Writing(_) => false,
                Busy::Echo(_, until) | Busy::Failed(until) => *until <= now,
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in over {
            self.busy.remove(&name);
            self.unequal.insert(name);
        }
        let mut later = BTreeSet::new();
        while let Some(name) = self.unequal.pop_first() {
            // Its end makes it be looked at again.
            if self.busy.contains_key(&name) {
                continue;
            }
            let Some(change) = self.change(&name) else {
                self.failing.succeeded(&name);
                continue;
            };
            if name.0 == Object::Announcement && self.gives_away_too_soon(&name.1) {
                later.insert(name);
                continue;
            }
            if self.writing >= WRITES {
                later.insert(name);
                break;
            }
            self.writing += 1;
            let deleting = matches!(change, Change::Delete { .. });
            self.busy.insert(name.clone(), Busy::Writing(deleting));
            effects.push(Effect::Write(name, change));
        }
        self.unequal.append(&mut later);
    }

    /// The write that an object needs; `None` when it is as it should be.
    fn change(&self, (object, name): &Name) -> Option<Change> {
        match object {
            Object::Announcement => {
                let found = self.announcements.get(name);
                match self.wanted_announcements.get(name) {
                    Some(spec) => {
                        let same = found.is_some_and(|found| found.ours && found.spec == **spec);
                        let version = found.map(|found| found.version.clone());
                        (!same).then(|| Change::Announcement(version, Arc::clone(spec)))
                    }
                    None => delete(found),
                }
            }
            Object::Speaker => {
                let found = self.speakers.get(name);
                match self.wanted_speakers.get(name) {
                    Some((spec, owner)) => {
                        let same = found.is_some_and(|found| {
                            found.ours
                                && found.spec == **spec
                                && found.owner.as_ref() == Some(owner)
                        });
                        let version = found.map(|found| found.version.clone());
                        (!same).then(|| Change::Speaker(version, Arc::clone(spec), owner.clone()))
                    }
                    None => delete(found),
                }
            }
        }
    }

    /// Whether an Announcement would lose an address that another is to have and has not yet: the
    /// speakers hand over without a gap only to somebody who is there. It waits for those only that
    /// wait for nobody themselves, so that no two wait for each other.
    fn gives_away_too_soon(&self, name: &Arc<str>) -> bool {
        let mut takers = self.takers(name);
        takers.any(|taker| self.takers(taker).next().is_none())
    }

    /// The Announcements that are to have an address of this one and have it not yet.
    fn takers(&self, name: &Arc<str>) -> impl Iterator<Item = &Arc<str>> {
        let found = self.announcements.get(name).into_iter();
        let ips = found.flat_map(|found| &found.spec.addresses);
        ips.filter_map(move |address| {
            let taker = self.groups.name_of(address.ip.parse().ok()?)?;
            let has = |spec: &AnnouncementSpec| spec.addresses.iter().any(|a| a.ip == address.ip);
            let wanted = self.wanted_announcements.get(taker);
            let there = self.announcements.get(taker);
            let waits = taker != name
                && wanted.is_some_and(|spec| has(spec))
                && !there.is_some_and(|found| has(&found.spec));
            waits.then_some(taker)
        })
    }

    /// What the watch says of an object: its version, `None` when it is gone.
    pub(super) fn echo(&mut self, name: &Name, version: Option<&Arc<str>>) {
        let over = match (self.busy.get(name), version) {
            (Some(Busy::Echo(Some(awaited), _)), Some(seen)) => !newer(awaited, seen),
            // A deletion is over when the object is gone. What was written and is gone was deleted
            // by somebody else.
            (Some(Busy::Echo(..)), None) => true,
            (Some(Busy::Failed(_)), _) => true,
            (Some(Busy::Echo(None, _) | Busy::Writing(_)) | None, _) => false,
        };
        if over {
            self.busy.remove(name);
        }
    }

    /// The object as the watch knows it has this version already.
    fn is_known(&self, (object, name): &Name, version: &str) -> bool {
        let known = match object {
            Object::Announcement => self.announcements.get(name).map(|found| &found.version),
            Object::Speaker => self.speakers.get(name).map(|found| &found.version),
        };
        known.is_some_and(|known| !newer(version, known))
    }

    fn is_gone(&self, (object, name): &Name) -> bool {
        match object {
            Object::Announcement => !self.announcements.contains_key(name),
            Object::Speaker => !self.speakers.contains_key(name),
        }
    }

    pub(super) fn written(
        &mut self,
        name: &Name,
        result: Result<Arc<str>, Failure>,
        now: Duration,
    ) {
        let Some(Busy::Writing(deleting)) = self.busy.get(name) else {
            return; // of a leadership that is over
        };
        let deleting = *deleting;
        self.writing = self.writing.saturating_sub(1);
        self.busy.remove(name);
        self.unequal.insert(name.clone());
        let busy = match result {
            // The watch may have been quicker than the reply.
            Ok(_) if deleting && self.is_gone(name) => None,
            Ok(version) if !deleting && self.is_known(name, &version) => None,
            Ok(version) => Some(Busy::Echo((!deleting).then_some(version), now + ECHO)),
            // It is gone, or was; the watch will say so.
            Err(Failure::NotFound) if deleting && self.is_gone(name) => None,
            Err(failure) => {
                match &failure {
                    Failure::Conflict | Failure::NotFound | Failure::Unknown(_) => {
                        tracing::debug!(?name, ?failure, "a write failed: again");
                    }
                    Failure::Refused(error) => {
                        tracing::warn!(?name, %error, "the API server refused a write");
                    }
                }
                Some(Busy::Failed(now + self.failing.delay(name)))
            }
        };
        match busy {
            Some(busy) => drop(self.busy.insert(name.clone(), busy)),
            None => self.failing.succeeded(name),
        }
    }
}

/// What is not ours stays.
fn delete<S>(found: Option<&Found<S>>) -> Option<Change> {
    let found = found.filter(|found| found.ours)?;
    Some(Change::Delete {
        version: found.version.clone(),
        uid: found.uid.clone(),
    })
}
