//! AllocationBlock to [`Claims`] and back. A block is read whole or not at all: what cannot be read
//! could be anybody's number, so nothing of such a block is free.

use std::{collections::BTreeMap, sync::Arc};

use allocator::{
    Sharing, Terms,
    block::{BlockId, Claim, Claims, Holder},
};
use crds::{AllocationBlockSpec, BlockClaim, BlockHolder, BlockSharing, HolderKind, Retained};
use model::{Number, Reason, ServiceKey, Space, TrafficPolicy, Uid, Use};

use super::{Identity, quoted, word};
use crate::core::record::{BlockRecord, Rejection};

#[cfg(test)]
mod tests;

/// The version of the format in which claims are written and the only one read.
pub const FORMAT_VERSION: u32 = 1;

/// An AllocationBlock. What is wrong inside is in `claims`.
///
/// # Errors
/// Name, uid or resourceVersion is missing, or the name is not that of a block, so that nobody can
/// say which numbers it covers.
pub fn block(block: &crds::AllocationBlock) -> Result<BlockRecord, Rejection> {
    let identity = Identity::of("AllocationBlock", &block.metadata)?;
    let id = BlockId::parse_name(&identity.name).ok_or_else(|| Rejection {
        reason: Reason::LedgerDamaged,
        message: format!(
            "AllocationBlock {}: the name is not that of a block, as v4-203-0-113-0 is; it was not \
             written by Portolan: delete it",
            identity.name
        ),
    })?;
    let claims = claims(id, &block.spec).map_err(|what| Rejection {
        reason: Reason::LedgerDamaged,
        message: format!("AllocationBlock {}: {what}", identity.name),
    });
    Ok(BlockRecord {
        id,
        version: identity.version,
        sequence: block.spec.sequence,
        writer: word(&block.spec.writer),
        claims,
    })
}

/// The content of the object for these claims: by number, the holders of each as they are.
pub fn block_spec(
    id: BlockId,
    claims: &Claims,
    sequence: i64,
    writer: &str,
) -> AllocationBlockSpec {
    AllocationBlockSpec {
        format_version: FORMAT_VERSION,
        sequence,
        writer: writer.to_owned(),
        claims: claims
            .iter()
            // One number of another block would make the whole block unreadable.
            .filter(|(number, _)| BlockId::of(**number) == id)
            .map(|(number, claim)| write_claim(*number, claim))
            .collect(),
    }
}

/// All claims, or what cannot be read and what to do about it.
fn claims(id: BlockId, spec: &AllocationBlockSpec) -> Result<Claims, String> {
    if spec.format_version != FORMAT_VERSION {
        return Err(format!(
            "spec.formatVersion {} is not {FORMAT_VERSION}, the one this version of Portolan \
             reads: run the version that wrote it",
            spec.format_version
        ));
    }
    let mut claims = BTreeMap::new();
    for (index, entry) in spec.claims.iter().enumerate() {
        let (number, claim) = read_claim(id, entry)
            .map_err(|what| format!("spec.claims[{index}]{what}; correct or remove the entry"))?;
        if claims.insert(number, claim).is_some() {
            return Err(format!(
                "spec.claims[{index}].number {number} is there twice; remove the wrong entry"
            ));
        }
    }
    Ok(claims)
}

fn read_claim(id: BlockId, entry: &BlockClaim) -> Result<(Number, Claim), String> {
    let number = Number::parse(id.space, &entry.number).ok_or_else(|| {
        format!(
            ".number {} is not {}",
            quoted(&entry.number),
            match id.space {
                Space::V4 => "an IPv4 address",
                Space::V6 => "an IPv6 address",
                Space::Port => "a port",
            }
        )
    })?;
    if BlockId::of(number) != id {
        return Err(format!(".number {number} is not one of this block's"));
    }
    let claim = match (entry.holders.as_slice(), &entry.retained) {
        ([], None) => return Err(" has neither holders nor retained".to_owned()),
        ([], Some(retained)) => Claim::Retained {
            owner: read_key(&retained.namespace, &retained.name)
                .ok_or(".retained has no namespace or no name")?,
            until: retained.until,
        },
        (_, Some(_)) => return Err(" has both holders and retained".to_owned()),
        (holders, None) => {
            let mut read: Vec<Holder> = Vec::with_capacity(holders.len());
            for (index, holder) in holders.iter().enumerate() {
                let holder = read_holder(id.space, holder)
                    .map_err(|what| format!(".holders[{index}]{what}"))?;
                if read
                    .iter()
                    .any(|other| other.uid == holder.uid && other.usage == holder.usage)
                {
                    return Err(format!(
                        ".holders[{index}] is the second of uid {} for {}",
                        quoted(holder.uid.as_str()),
                        holder.usage
                    ));
                }
                read.push(holder);
            }
            Claim::Held(read)
        }
    };
    Ok((number, claim))
}

fn read_holder(space: Space, holder: &BlockHolder) -> Result<Holder, String> {
    let service =
        read_key(&holder.namespace, &holder.name).ok_or(" has no namespace or no name")?;
    if holder.uid.is_empty() {
        return Err(" has no uid".to_owned());
    }
    if holder.at.is_empty() {
        return Err(" has no at".to_owned());
    }
    let usage = match holder.kind {
        HolderKind::LoadBalancer => Use::LoadBalancer,
        HolderKind::ClusterIP => Use::ClusterIp,
        HolderKind::NodePort => Use::NodePort,
        HolderKind::HealthCheckNodePort => Use::HealthCheckNodePort,
    };
    let of_ports = match usage {
        Use::NodePort | Use::HealthCheckNodePort => true,
        Use::LoadBalancer | Use::ClusterIp => false,
    };
    if of_ports != (space == Space::Port) {
        return Err(format!(".kind {usage} does not fit such a number"));
    }
    Ok(Holder {
        service,
        uid: Uid::from(holder.uid.as_str()),
        usage,
        at: holder.at.as_str().into(),
        sharing: holder.sharing.as_ref().map(read_sharing).transpose()?,
    })
}

fn read_key(namespace: &str, name: &str) -> Option<ServiceKey> {
    (!namespace.is_empty() && !name.is_empty()).then(|| ServiceKey {
        namespace: word(namespace),
        name: name.into(),
    })
}

fn read_sharing(sharing: &BlockSharing) -> Result<Sharing, String> {
    let ports: Result<Vec<_>, _> = sharing.ports.iter().map(|port| port.parse()).collect();
    let policy = match sharing.policy.as_str() {
        "Cluster" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        other => {
            return Err(format!(
                ".sharing.policy {} is neither Cluster nor Local",
                quoted(other)
            ));
        }
    };
    Ok(Sharing::from(Terms {
        key: sharing.key.as_str().into(),
        with: sharing
            .with
            .iter()
            .map(|namespace| word(namespace))
            .collect(),
        ports: ports.map_err(|_| ".sharing.ports has an entry that is not like TCP/80")?,
        policy,
        backend: sharing.backend.as_str().into(),
    }))
}

fn write_claim(number: Number, claim: &Claim) -> BlockClaim {
    let (holders, retained) = match claim {
        Claim::Held(holders) => (holders.iter().map(write_holder).collect(), None),
        Claim::Retained { owner, until } => (
            Vec::new(),
            Some(Retained {
                namespace: owner.namespace.to_string(),
                name: owner.name.to_string(),
                until: *until,
            }),
        ),
    };
    BlockClaim {
        number: number.to_string(),
        holders,
        retained,
    }
}

fn write_holder(holder: &Holder) -> BlockHolder {
    BlockHolder {
        namespace: holder.service.namespace.to_string(),
        name: holder.service.name.to_string(),
        uid: holder.uid.to_string(),
        kind: match holder.usage {
            Use::LoadBalancer => HolderKind::LoadBalancer,
            Use::ClusterIp => HolderKind::ClusterIP,
            Use::NodePort => HolderKind::NodePort,
            Use::HealthCheckNodePort => HolderKind::HealthCheckNodePort,
        },
        at: holder.at.to_string(),
        sharing: holder.sharing.as_ref().map(|sharing| BlockSharing {
            key: sharing.key.to_string(),
            with: sharing.with.iter().map(Arc::<str>::to_string).collect(),
            ports: sharing.ports.iter().map(ToString::to_string).collect(),
            policy: sharing.policy.as_str().to_owned(),
            backend: sharing.backend.to_string(),
        }),
    }
}
