//! What the engine is told: each verdict once, and one that may pass by itself only when it has not.

use super::*;

impl Announcer {
    pub(super) fn tell(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let over = self
            .silent
            .iter()
            .filter(|(_, since)| **since + PATIENCE <= now);
        let over: Vec<ServiceKey> = over.map(|(key, _)| key.clone()).collect();
        self.dirty_services.extend(over);
        for key in std::mem::take(&mut self.dirty_services) {
            self.tell_one(&key, now, effects);
        }
    }

    fn tell_one(&mut self, key: &ServiceKey, now: Duration, effects: &mut Vec<Effect>) {
        let wish = self.groups.wish(key).cloned();
        let verdict = wish.as_ref().and_then(|wish| self.facts().verdict(wish));
        let (Some(wish), Some(verdict)) = (wish, verdict) else {
            self.silent.remove(key);
            self.told.remove(key);
            return;
        };
        if verdict.passing {
            let since = *self.silent.entry(key.clone()).or_insert(now);
            let known = self
                .told
                .get(key)
                .is_some_and(|told| told.reason == verdict.reason && told.answers(&wish));
            if now < since + PATIENCE && !known {
                return;
            }
        }
        self.silent.remove(key);
        let Verdict {
            ready,
            failed,
            reason,
            message,
            passing: _,
        } = verdict;
        let told = Told {
            key: key.clone(),
            uid: wish.uid.clone(),
            addresses: wish.addresses.keys().copied().collect(),
            ready,
            failed,
            reason,
            message,
        };
        if self.told.get(key) != Some(&told) {
            self.told.insert(key.clone(), told.clone());
            effects.push(Effect::Tell(told));
        }
    }
}
