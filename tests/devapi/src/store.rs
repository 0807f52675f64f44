//! Objects, the global resourceVersion and the shared event log.
//!
//! Every committed change takes exactly one resourceVersion and is exactly one entry of the log, so the entry after
//! version N lies at a known index. Watchers hold a version as their cursor and read on; nothing is queued per watcher.
//! The log is bounded: who falls behind its start gets 410, as on a real API server after compaction.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use crate::resource::{Resource, put};

/// Namespace (empty for cluster-scoped objects) and name.
pub(crate) type Key = (String, String);

/// One version of one object, immutable once committed.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) value: Value,
    pub(crate) rv: u64,
    json: OnceLock<Bytes>,
}

impl Object {
    fn new(value: Value, rv: u64) -> Arc<Self> {
        Arc::new(Self {
            value,
            rv,
            json: OnceLock::new(),
        })
    }

    /// The stored shape as JSON, encoded at most once.
    pub(crate) fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| Bytes::from(self.value.to_string()))
            .clone()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

/// One committed change. For a deletion `object` is the last state with the deletion's resourceVersion.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) rv: u64,
    pub(crate) table: Arc<str>,
    pub(crate) key: Key,
    pub(crate) change: Change,
    pub(crate) object: Arc<Object>,
    pub(crate) before: Option<Arc<Object>>,
}

/// The object changed between being read and being written: read again.
#[derive(Debug)]
pub(crate) struct Raced;

/// The asked version is older than the log.
#[derive(Debug)]
pub(crate) struct Compacted {
    /// The oldest version that can be asked for.
    pub(crate) oldest: u64,
}

type Table = BTreeMap<Key, Arc<Object>>;

#[derive(Debug)]
pub(crate) struct Store {
    rv: u64,
    tables: HashMap<Arc<str>, Table>,
    /// By group and plural.
    resources: BTreeMap<(String, String), Arc<Resource>>,
    log: VecDeque<Arc<Entry>>,
    history: usize,
    news: watch::Sender<u64>,
}

impl Store {
    pub(crate) fn new(history: usize) -> Self {
        let (news, _) = watch::channel(1);
        Self {
            rv: 1,
            tables: HashMap::new(),
            resources: BTreeMap::new(),
            log: VecDeque::new(),
            history: history.max(1),
            news,
        }
    }

    pub(crate) fn rv(&self) -> u64 {
        self.rv
    }

    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Changes after this version are still in the log.
    pub(crate) fn oldest(&self) -> u64 {
        self.rv - self.log.len() as u64
    }

    /// Forgets the whole history, as etcd compaction does.
    pub(crate) fn compact(&mut self) {
        self.log.clear();
    }

    pub(crate) fn resource(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.resources
            .get(&(group.to_owned(), plural.to_owned()))
            .cloned()
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    pub(crate) fn serve(&mut self, resource: Resource) {
        self.resources.insert(
            (resource.group.clone(), resource.plural.clone()),
            Arc::new(resource),
        );
    }

    pub(crate) fn stop_serving(&mut self, group: &str, plural: &str) {
        self.resources
            .remove(&(group.to_owned(), plural.to_owned()));
    }

    pub(crate) fn get(&self, table: &str, key: &Key) -> Option<Arc<Object>> {
        self.tables.get(table)?.get(key).cloned()
    }

    /// Objects of a table in key order, of one namespace or all, after a key.
    pub(crate) fn range<'a>(
        &'a self,
        table: &str,
        namespace: Option<&'a str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Object>)> + use<'a> {
        let from = match (after, namespace) {
            (Some(key), _) => Bound::Excluded(key.clone()),
            (None, Some(ns)) => Bound::Included((ns.to_owned(), String::new())),
            (None, None) => Bound::Unbounded,
        };
        self.tables
            .get(table)
            .into_iter()
            .flat_map(move |t| t.range((from.clone(), Bound::Unbounded)))
            .take_while(move |(key, _)| namespace.is_none_or(|ns| key.0 == ns))
    }

    /// The objects as they were at version `rv`, by rolling the log back.
    pub(crate) fn range_at(
        &self,
        table: &str,
        namespace: Option<&str>,
        after: Option<&Key>,
        rv: u64,
    ) -> Result<Vec<(Key, Arc<Object>)>, Compacted> {
        let mut then: BTreeMap<Key, Option<Arc<Object>>> = BTreeMap::new();
        for entry in self.since(rv)? {
            let here =
                entry.table.as_ref() == table && namespace.is_none_or(|ns| entry.key.0 == ns);
            if here && after.is_none_or(|a| &entry.key > a) {
                then.entry(entry.key.clone())
                    .or_insert_with(|| entry.before.clone());
            }
        }
        let mut merged: BTreeMap<Key, Arc<Object>> = self
            .range(table, namespace, after)
            .map(|(k, o)| (k.clone(), o.clone()))
            .collect();
        for (key, object) in then {
            match object {
                Some(object) => merged.insert(key, object),
                None => merged.remove(&key),
            };
        }
        Ok(merged.into_iter().collect())
    }

    /// Every change after version `rv`. A version from the future yields nothing yet.
    pub(crate) fn since(&self, rv: u64) -> Result<impl Iterator<Item = &Arc<Entry>>, Compacted> {
        let oldest = self.oldest();
        let skip = rv.checked_sub(oldest).ok_or(Compacted { oldest })?;
        Ok(self.log.range(
            usize::try_from(skip)
                .unwrap_or(usize::MAX)
                .min(self.log.len())..,
        ))
    }

    /// Writes one object, or with `None` removes it, if it still is what `before` says.
    pub(crate) fn commit(
        &mut self,
        table: &Arc<str>,
        key: &Key,
        before: Option<&Arc<Object>>,
        next: Option<Value>,
    ) -> Result<Arc<Object>, Raced> {
        let objects = self.tables.entry(table.clone()).or_default();
        let current = objects.get(key).cloned();
        if current.as_ref().map(|o| o.rv) != before.map(|o| o.rv) {
            return Err(Raced);
        }
        let (change, mut value) = match (&current, next) {
            (None, None) => return Err(Raced),
            (None, Some(value)) => (Change::Added, value),
            (Some(_), Some(value)) => (Change::Modified, value),
            (Some(old), None) => (Change::Deleted, old.value.clone()),
        };
        self.rv += 1;
        put(
            &mut value,
            &["metadata", "resourceVersion"],
            self.rv.to_string().into(),
        );
        let object = Object::new(value, self.rv);
        if change == Change::Deleted {
            objects.remove(key);
        } else {
            objects.insert(key.clone(), object.clone());
        }
        self.log.push_back(Arc::new(Entry {
            rv: self.rv,
            table: table.clone(),
            key: key.clone(),
            change,
            object: object.clone(),
            before: current,
        }));
        while self.log.len() > self.history {
            self.log.pop_front();
        }
        self.news.send_replace(self.rv);
        Ok(object)
    }
}
