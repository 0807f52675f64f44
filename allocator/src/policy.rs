//! Whether a number that a Service has, whoever chose it, is one that the pools allow it. Judges;
//! that it must therefore change, and to which number, is said elsewhere.

use std::sync::Arc;

use model::Number;

use crate::{Allocator, Request, decide::Want, entry::Entry};

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;

/// The pools that a Service's numbers for one use must lie in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Binding {
    /// No pool binds it: it keeps whatever it has.
    Free,
    /// The number must lie in one of these. None at all when the pool that the Service asks for
    /// does not exist, does not admit it, or may not be used because another one enforces.
    To(Vec<Arc<str>>),
}

impl Allocator {
    /// Which pools bind the Service: the one that it asks for by name, else those that admit it and
    /// enforce. That a pool gives numbers to whoever has none (`autoAssign`) binds nobody.
    pub fn binding(&self, request: &Request<'_>) -> Binding {
        let want = Want {
            request,
            space: model::Space::Port,
            now: 0,
        };
        let admitted = |entry: &&Entry| entry.pool.serves(request.usage) && want.admitted(entry);
        let enforcing = || self.entries().filter(admitted).filter(|e| e.pool.enforce);
        let names = |entries: Vec<&Entry>| {
            Binding::To(
                entries
                    .iter()
                    .map(|entry| entry.pool.name.clone())
                    .collect(),
            )
        };
        match request.pool {
            Some(name) if enforcing().next().is_some() => {
                names(enforcing().filter(|e| *e.pool.name == *name).collect())
            }
            Some(name) => names(
                self.entries()
                    .filter(admitted)
                    .filter(|entry| *entry.pool.name == *name)
                    .collect(),
            ),
            None if enforcing().next().is_some() => names(enforcing().collect()),
            None => Binding::Free,
        }
    }

    /// Whether the number lies where the binding wants it. What a pool excludes lies outside it; a
    /// pool that is disabled or overlaps an older one keeps what it has.
    pub fn permits(&self, binding: &Binding, number: Number) -> bool {
        match binding {
            Binding::Free => true,
            Binding::To(names) => self.entries_containing(number).any(|entry| {
                names.contains(&entry.pool.name)
                    && !entry.pool.reserved(number.space).contains(number.value)
            }),
        }
    }
}
