//! What the announcer watches, reduced at once to what it keeps.

use std::sync::Arc;

use crds::{Announcement, Speaker, SpeakerStatus};
use k8s_openapi::{
    api::{core::v1::Node, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use model::{Reason, Uid};

use super::write::{MANAGED_BY, MANAGER_NAME};
use crate::{
    core::{
        announce::{self, Found, Kind, Seen},
        record::Rejection,
    },
    shell::watch::{Sight, Watched},
};

impl Sight for Seen {
    type Kind = Kind;

    fn unreadable(kind: Kind, name: String, _error: String) -> Self {
        Self::Unreadable(kind, name.into())
    }

    fn restarted(kind: Kind) -> Self {
        Self::Restarted(kind)
    }

    fn synced(kind: Kind) -> Self {
        Self::Synced(kind)
    }
}

fn name(meta: &ObjectMeta) -> Option<Arc<str>> {
    meta.name.as_deref().map(Arc::from)
}

fn named(meta: &ObjectMeta) -> Result<Arc<str>, Rejection> {
    name(meta).ok_or_else(|| incomplete("name"))
}

fn incomplete(what: &str) -> Rejection {
    Rejection {
        reason: Reason::Unreadable,
        message: format!("metadata.{what} is missing"),
    }
}

impl Watched for Node {
    type Seen = Seen;

    const KIND: Kind = Kind::Node;

    fn observed(&self) -> Result<Seen, Rejection> {
        let node = announce::node(self).ok_or_else(|| incomplete("uid"))?;
        Ok(Seen::Node(named(&self.metadata)?, Some(node)))
    }

    fn deleted(meta: &ObjectMeta) -> Option<Seen> {
        Some(Seen::Node(name(meta)?, None))
    }
}

/// `namespace/name`, as one that cannot be read is called, too.
fn slice_name(meta: &ObjectMeta) -> Option<Arc<str>> {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    Some(format!("{namespace}/{}", meta.name.as_deref()?).into())
}

impl Watched for EndpointSlice {
    type Seen = Seen;

    const KIND: Kind = Kind::Slice;

    fn observed(&self) -> Result<Seen, Rejection> {
        let name = slice_name(&self.metadata).ok_or_else(|| incomplete("name"))?;
        Ok(Seen::Slice(name, announce::slice(self)))
    }

    fn deleted(meta: &ObjectMeta) -> Option<Seen> {
        Some(Seen::Slice(slice_name(meta)?, None))
    }
}

fn found<S>(meta: &ObjectMeta, spec: S) -> Result<Found<S>, Rejection> {
    let labels = meta.labels.as_ref();
    let label = labels.and_then(|labels| labels.get(MANAGED_BY));
    let owners = meta.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|owner| owner.kind == "Node");
    let version = meta.resource_version.as_deref();
    let uid = meta.uid.as_deref();
    Ok(Found {
        version: version.ok_or_else(|| incomplete("resourceVersion"))?.into(),
        uid: uid.ok_or_else(|| incomplete("uid"))?.into(),
        ours: label.is_some_and(|label| label == MANAGER_NAME),
        owner: owner.map(|owner| Uid::from(owner.uid.as_str())),
        spec,
    })
}

impl Watched for Announcement {
    type Seen = Seen;

    const KIND: Kind = Kind::Announcement;

    fn observed(&self) -> Result<Seen, Rejection> {
        let found = found(&self.metadata, self.spec.clone())?;
        Ok(Seen::Announcement(named(&self.metadata)?, Some(found)))
    }

    fn deleted(meta: &ObjectMeta) -> Option<Seen> {
        Some(Seen::Announcement(name(meta)?, None))
    }
}

impl Watched for Speaker {
    type Seen = Seen;

    const KIND: Kind = Kind::Speaker;

    fn observed(&self) -> Result<Seen, Rejection> {
        let found = found(&self.metadata, self.spec.clone())?;
        Ok(Seen::Speaker(named(&self.metadata)?, Some(found)))
    }

    fn deleted(meta: &ObjectMeta) -> Option<Seen> {
        Some(Seen::Speaker(name(meta)?, None))
    }
}

impl Watched for SpeakerStatus {
    type Seen = Seen;

    const KIND: Kind = Kind::Status;

    fn observed(&self) -> Result<Seen, Rejection> {
        Ok(Seen::Status(
            named(&self.metadata)?,
            Some(self.spec.clone()),
        ))
    }

    fn deleted(meta: &ObjectMeta) -> Option<Seen> {
        Some(Seen::Status(name(meta)?, None))
    }
}
