//! Watches: a cursor over the shared log, read when the client is ready for more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use serde_json::json;
use tokio::time::Instant;

use crate::DevApi;
use crate::call::{Call, Filter};
use crate::error::{ApiError, Errors, Result};
use crate::read::encode;
use crate::request::{Query, Shape, Target};
use crate::resource::api_version;
use crate::store::{Change, Entry, Object};

/// A watch without `timeoutSeconds` ends after this; a real API server draws 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Events handed to the client at once.
const BATCH: usize = 256;

/// The annotation that ends the initial events of a streaming list (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

struct Cursor {
    api: DevApi,
    target: Target,
    query: Query,
    shape: Shape,
    filter: Filter,
    /// Everything up to this version was delivered or did not concern this watch.
    seen: u64,
    ready: VecDeque<Bytes>,
    news: tokio::sync::watch::Receiver<u64>,
    ends: Instant,
    bookmark_at: Option<Instant>,
    ended: bool,
}

/// Starts a watch; what is wrong with the request is an error, what is wrong with its start version is an event.
pub(crate) fn start(
    call: &Call<'_>,
    shape: Shape,
) -> Result<impl Stream<Item = Bytes> + Send + use<>> {
    let query = &call.query;
    let filter = call.filter()?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let initial = query
        .get("sendInitialEvents")
        .map(|v| v == "true" || v == "1");
    let exactness = query.get("resourceVersionMatch");
    let refuse = |why: &str| {
        let errors = Errors::of(|errors| errors.forbidden("resourceVersionMatch", why));
        errors.refuse("meta.k8s.io", "ListOptions", "")
    };
    match (initial, exactness) {
        (None, Some(_)) => {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            refuse(why)?;
        }
        (Some(_), other) if other != Some("NotOlderThan") => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            refuse(why)?;
        }
        _ => {}
    }
    let version = query.resource_version()?.filter(|v| *v > 0);
    let news = call.api.lock().news();
    let timeout = query
        .number("timeoutSeconds")
        .filter(|s| *s > 0)
        .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let interval = call.api.bookmark_interval();
    let mut cursor = Cursor {
        api: call.api.clone(),
        target: call.target.clone(),
        query: query.clone(),
        shape,
        filter,
        seen: 0,
        ready: VecDeque::new(),
        news,
        ends: Instant::now() + timeout,
        bookmark_at: bookmarks.then(|| Instant::now() + interval),
        ended: false,
    };
    let send_state = initial.unwrap_or(version.is_none());
    if send_state {
        let store = call.api.lock();
        cursor.seen = store.rv();
        let namespace = call.target.namespace.as_deref();
        let objects: Vec<Arc<Object>> = store
            .range(&call.res.table, namespace, None)
            .map(|(_, object)| object.clone())
            .collect();
        drop(store);
        for object in objects {
            if cursor.filter.matches(&object.value) {
                cursor.push(call, "ADDED", &object);
            }
        }
        if initial == Some(true) && bookmarks {
            cursor.bookmark(call, true);
        }
    } else {
        cursor.seen = version.unwrap_or_else(|| call.api.lock().rv());
    }
    Ok(futures::stream::unfold(cursor, Cursor::next))
}

impl Cursor {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        loop {
            if !self.ready.is_empty() {
                let chunk = self.take_ready();
                return Some((chunk, self));
            }
            if self.ended {
                return None;
            }
            self.read_log();
            if !self.ready.is_empty() || self.ended {
                continue;
            }
            let wake = self.bookmark_at.map_or(self.ends, |b| b.min(self.ends));
            tokio::select! {
                changed = self.news.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(wake) => self.on_timer(),
            }
        }
    }

    fn take_ready(&mut self) -> Bytes {
        if self.ready.len() == 1 {
            return self.ready.pop_front().unwrap_or_default();
        }
        let batch: Vec<Bytes> = self.ready.drain(..self.ready.len().min(BATCH)).collect();
        batch.concat().into()
    }

    /// Reads the log from the cursor on. A `Call` is made anew each time: the resource may have been redefined.
    fn read_log(&mut self) {
        let api = self.api.clone();
        let Ok(call) = Call::new(&api, self.target.clone(), self.query.clone()) else {
            self.ended = true; // The definition was deleted.
            return;
        };
        self.news.mark_unchanged();
        let store = call.api.lock();
        let read = store.since(self.seen).map(|entries| {
            let mut last = self.seen;
            let mut mine: Vec<Arc<Entry>> = Vec::new();
            for entry in entries {
                last = entry.rv;
                if self.concerns(&call, entry) {
                    mine.push(entry.clone());
                }
                if mine.len() == BATCH {
                    break;
                }
            }
            (last, mine)
        });
        drop(store);
        match read {
            Ok((last, mine)) => {
                for entry in mine {
                    self.deliver(&call, &entry);
                }
                self.seen = last;
            }
            Err(compacted) => {
                let message = format!(
                    "too old resource version: {} ({})",
                    self.seen, compacted.oldest
                );
                let status = ApiError::expired(message).status();
                self.ready
                    .push_back(line(&json!({"type": "ERROR", "object": status})));
                self.ended = true;
            }
        }
    }

    fn concerns(&self, call: &Call<'_>, entry: &Entry) -> bool {
        entry.table == call.res.table
            && self
                .target
                .namespace
                .as_ref()
                .is_none_or(|ns| &entry.key.0 == ns)
    }

    /// An object that starts to match is an addition to this watcher, one that ceases to match a deletion.
    fn deliver(&mut self, call: &Call<'_>, entry: &Entry) {
        let now = entry.change != Change::Deleted && self.filter.matches(&entry.object.value);
        let then = entry
            .before
            .as_ref()
            .is_some_and(|o| self.filter.matches(&o.value));
        match (then, now) {
            (false, true) => self.push(call, "ADDED", &entry.object),
            (true, true) => self.push(call, "MODIFIED", &entry.object),
            (true, false) => self.push(call, "DELETED", &entry.object),
            (false, false) => {}
        }
    }

    fn push(&mut self, call: &Call<'_>, kind: &str, object: &Object) {
        let json = encode(call, self.shape, object);
        let mut out = Vec::with_capacity(json.len() + 40);
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        out.extend_from_slice(&json);
        out.extend_from_slice(b"}\n");
        self.ready.push_back(out.into());
    }

    fn on_timer(&mut self) {
        let now = Instant::now();
        let ending = now >= self.ends;
        if let Some(at) = self.bookmark_at
            && (now >= at || ending)
        {
            self.bookmark_at = Some(now + self.api.bookmark_interval());
            if let Ok(call) = Call::new(&self.api.clone(), self.target.clone(), self.query.clone())
            {
                self.bookmark(&call, false);
            }
        }
        self.ended |= ending;
    }

    fn bookmark(&mut self, call: &Call<'_>, initial_end: bool) {
        let mut metadata =
            json!({"resourceVersion": self.seen.to_string(), "creationTimestamp": null});
        if initial_end && let Some(map) = metadata.as_object_mut() {
            map.insert("annotations".into(), json!({INITIAL_EVENTS_END: "true"}));
        }
        let version = api_version(&call.res.group, &call.version().name);
        let object = match self.shape {
            Shape::Table => crate::table::of(call, &[], metadata),
            Shape::Object => {
                json!({"kind": call.res.kind, "apiVersion": version, "metadata": metadata})
            }
        };
        self.ready
            .push_back(line(&json!({"type": "BOOKMARK", "object": object})));
    }
}

fn line(value: &serde_json::Value) -> Bytes {
    format!("{value}\n").into()
}
