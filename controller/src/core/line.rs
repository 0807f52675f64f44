//! Whose turn it is for an external address: the Services that may want one and have not been
//! decided on since they became dirty, oldest first. A younger one stands back while an older one
//! could be left without. It holds no numbers and never looks at pools.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use model::ServiceKey;

/// Nobody stands back longer than this: some spec writes and their echoes. An older Service that
/// takes longer has lost its turn, not its wish.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Place {
    /// It asks for one address or one sharing key, so that its number is not any number.
    choosy: bool,
    /// Stands back no longer than until then; kept while it is looked at in between.
    patience: Option<Duration>,
    /// Stands back now; otherwise the queue or a step has it.
    stands: bool,
}

/// The line.
#[derive(Debug, Default)]
pub struct Line {
    places: BTreeMap<(i64, ServiceKey), Place>,
    /// To find a key in `places`.
    created: HashMap<ServiceKey, i64>,
}

impl Line {
    /// The Service is to be decided on.
    pub fn join(&mut self, key: &ServiceKey, created: i64, choosy: bool) {
        if self.created.get(key) != Some(&created) {
            self.leave(key);
            self.created.insert(key.clone(), created);
        }
        let place = self.places.entry((created, key.clone())).or_default();
        place.choosy = choosy;
    }

    /// It has been decided on, or it is gone.
    pub fn leave(&mut self, key: &ServiceKey) {
        if let Some(created) = self.created.remove(key) {
            self.places.remove(&(created, key.clone()));
        }
    }

    /// Everyone older than this one, and whether it is choosy.
    pub fn before(&self, key: &ServiceKey) -> impl Iterator<Item = (&ServiceKey, bool)> {
        let place = self.created.get(key).map(|created| (*created, key.clone()));
        place
            .into_iter()
            .flat_map(|place| self.places.range(..place))
            .map(|((_, key), place)| (key, place.choosy))
    }

    /// Lets the Service stand back; says until when, and nothing when it has done so long enough.
    pub fn stand_back(&mut self, key: &ServiceKey, now: Duration) -> Option<Duration> {
        let created = *self.created.get(key)?;
        let place = self.places.get_mut(&(created, key.clone()))?;
        let until = *place.patience.get_or_insert(now + PATIENCE);
        place.stands = now < until;
        place.stands.then_some(until)
    }

    /// The first in line, if it stands back: nobody is before it any more. Says so once.
    pub fn turn(&mut self) -> Option<ServiceKey> {
        let mut first = self.places.first_entry()?;
        std::mem::take(&mut first.get_mut().stands).then(|| first.key().1.clone())
    }

    /// Whether somebody stands back.
    pub fn stands(&self) -> bool {
        self.places.values().any(|place| place.stands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey::new("default", name)
    }

    fn line() -> Line {
        let mut line = Line::default();
        line.join(&key("young"), 20, false);
        line.join(&key("old"), 10, false);
        line.join(&key("older"), 10, true);
        line
    }

    #[test]
    fn of_two_created_at_once_the_first_by_name_is_before_the_other() {
        let line = line();
        let before: Vec<_> = line.before(&key("young")).collect();
        assert_eq!(before, [(&key("old"), false), (&key("older"), true)]);
        assert_eq!(line.before(&key("old")).count(), 0);
    }

    #[test]
    fn its_turn_comes_once_when_all_before_it_have_left() {
        let mut line = line();
        line.stand_back(&key("young"), Duration::ZERO);
        assert_eq!(line.turn(), None);
        line.leave(&key("old"));
        line.leave(&key("older"));
        assert_eq!([line.turn(), line.turn()], [Some(key("young")), None]);
    }

    #[test]
    fn nobody_stands_back_longer_than_its_patience_however_often_it_is_looked_at() {
        let mut line = line();
        assert_eq!(
            line.stand_back(&key("young"), Duration::ZERO),
            Some(PATIENCE)
        );
        line.join(&key("young"), 20, false);
        let later = PATIENCE / 2;
        assert_eq!(line.stand_back(&key("young"), later), Some(PATIENCE));
        assert_eq!(line.stand_back(&key("young"), PATIENCE), None);
        assert!(!line.stands());
    }

    #[test]
    fn a_service_created_anew_under_its_name_takes_a_new_place() {
        let mut line = line();
        line.join(&key("old"), 30, false);
        assert_eq!(line.before(&key("old")).count(), 2);
    }
}
