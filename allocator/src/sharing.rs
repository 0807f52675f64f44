//! When two Services may have the same address.

use std::{fmt, ops::Deref, sync::Arc};

use model::{Port, TrafficPolicy};

/// On what terms a Service shares an address. Cheap to clone; one pointer wide, because every
/// holder has room for one and few have one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sharing(Arc<Terms>);

/// What [`Sharing`] says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Terms {
    /// `portolan.dev/sharing-key`: only Services with the same one share.
    pub key: Arc<str>,
    /// `portolan.dev/share-with-namespaces`: other namespaces that may.
    pub with: Vec<Arc<str>>,
    /// The Service's ports; no other holder may have one of them.
    pub ports: Vec<Port>,
    /// `externalTrafficPolicy`; every holder has the same.
    pub policy: TrafficPolicy,
    /// Identifies the Service's endpoints (its selector); with `Local` every holder has the same,
    /// because traffic only reaches nodes that have endpoints of all.
    pub backend: Arc<str>,
}

impl From<Terms> for Sharing {
    fn from(terms: Terms) -> Self {
        Self(Arc::new(terms))
    }
}

impl Deref for Sharing {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.0
    }
}

/// Why two Services may not share an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// The holder has no sharing key.
    NotShared,
    /// The holder has another sharing key.
    OtherKey,
    /// They are in different namespaces, and not each lists the other's.
    Namespace,
    /// Both use this port.
    Port(Port),
    /// Their externalTrafficPolicy differs.
    Policy,
    /// With `externalTrafficPolicy: Local` both must select the same Pods.
    Backend,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotShared => f.write_str("it has no portolan.dev/sharing-key"),
            Self::OtherKey => f.write_str("its portolan.dev/sharing-key is another one"),
            Self::Namespace => f.write_str(
                "the namespaces differ and portolan.dev/share-with-namespaces does not list the other one on both",
            ),
            Self::Port(port) => write!(f, "both use port {port}"),
            Self::Policy => f.write_str("spec.externalTrafficPolicy differs"),
            Self::Backend => {
                f.write_str("with externalTrafficPolicy Local both must have the same spec.selector")
            }
        }
    }
}

/// Whether Services of these namespaces with these terms may have the same address.
///
/// # Errors
/// The first obstacle.
pub fn may_share(
    namespace: &str,
    terms: &Sharing,
    other_namespace: &str,
    other: &Sharing,
) -> Result<(), Obstacle> {
    let lists = |terms: &Sharing, namespace: &str| terms.with.iter().any(|w| &**w == namespace);
    if terms.key != other.key {
        return Err(Obstacle::OtherKey);
    }
    if namespace != other_namespace && !(lists(terms, other_namespace) && lists(other, namespace)) {
        return Err(Obstacle::Namespace);
    }
    if let Some(port) = terms.ports.iter().find(|port| other.ports.contains(port)) {
        return Err(Obstacle::Port(*port));
    }
    if terms.policy != other.policy {
        return Err(Obstacle::Policy);
    }
    match terms.policy {
        TrafficPolicy::Local if terms.backend != other.backend => Err(Obstacle::Backend),
        TrafficPolicy::Local | TrafficPolicy::Cluster => Ok(()),
    }
}

#[cfg(test)]
#[rustfmt::skip] // one row, one line
mod tests;
