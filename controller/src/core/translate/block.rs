//! AllocationBlock to [`Claims`] and back. A block is read whole or not at all: what cannot be read
//! could be anybody's number, so nothing of such a block is free.

use std::{collections::BTreeMap, sync::Arc};

use allocator::{
    Sharing, Terms,
    block::{BlockId, Claim, Claims, Holder},
};
use crds::AllocationBlockSpec;
use model::{Number, Reason, ServiceKey, Space, TrafficPolicy, Uid, Use};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Identity, quoted, word};
use crate::core::record::{BlockRecord, Rejection};

#[cfg(test)]
mod tests;

/// The version of the format in which claims are written and the only one read.
pub const FORMAT_VERSION: u32 = 2;
/// In a line, instead of what a holder uses the number for.
const RETAINED: &str = "Retained";

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
            .flat_map(|(number, claim)| write(*number, claim))
            .fold(String::new(), |text, line| text + &line + "\n"),
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
    let lines = (1..).zip(spec.claims.lines());
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        read(id, line, &mut claims).map_err(|what| {
            format!("spec.claims, line {number}, {what}; correct or remove the line")
        })?;
    }
    Ok(claims)
}

/// Adds one line: a holder, or a retention.
fn read(id: BlockId, line: &str, claims: &mut Claims) -> Result<(), String> {
    let mut words = line.splitn(4, ' ');
    let mut word = |what| words.next().ok_or_else(|| format!("has no {what}"));
    let (text, kind, owner, rest) = (
        word("number")?,
        word("kind")?,
        word("Service")?,
        word("uid or time")?,
    );
    let number = Number::parse(id.space, text).ok_or_else(|| {
        let what = match id.space {
            Space::V4 => "an IPv4 address",
            Space::V6 => "an IPv6 address",
            Space::Port => "a port",
        };
        format!("is of {}, which is not {what}", quoted(text))
    })?;
    if BlockId::of(number) != id {
        return Err(format!("is of {number}, which is not one of this block"));
    }
    let service = read_key(owner)
        .ok_or_else(|| format!("is of {}, which is not NAMESPACE/NAME", quoted(owner)))?;
    if kind == RETAINED {
        let until = rest
            .parse()
            .map_err(|_| format!("is until {}, which is not a time", quoted(rest)))?;
        let retained = Claim::Retained {
            owner: service,
            until,
        };
        return match claims.insert(number, retained) {
            None => Ok(()),
            Some(_) => Err("is of a number that another line has".to_owned()),
        };
    }
    let holder = read_holder(id.space, service, kind, rest)?;
    match claims.entry(number).or_insert(Claim::Held(Vec::new())) {
        Claim::Retained { .. } => Err("is of a number that another line retains".to_owned()),
        Claim::Held(holders) => {
            let same = |other: &Holder| other.uid == holder.uid && other.usage == holder.usage;
            if holders.iter().any(same) {
                let uid = quoted(holder.uid.as_str());
                return Err(format!("is the second of uid {uid} for {}", holder.usage));
            }
            holders.push(holder);
            Ok(())
        }
    }
}

fn read_holder(
    space: Space,
    service: ServiceKey,
    kind: &str,
    rest: &str,
) -> Result<Holder, String> {
    let mut words = rest.splitn(3, ' ');
    let mut word = |what| {
        let word = words.next().filter(|word| !word.is_empty());
        word.ok_or_else(|| format!("has no {what}"))
    };
    let (uid, at) = (word("uid")?, word("resourceVersion")?);
    let sharing = words.next();
    let usage = Use::ALL.into_iter().find(|usage| usage.as_str() == kind);
    let usage = usage.ok_or_else(|| format!("is of the unknown kind {}", quoted(kind)))?;
    let of_ports = match usage {
        Use::NodePort | Use::HealthCheckNodePort => true,
        Use::LoadBalancer | Use::ClusterIp => false,
    };
    if of_ports != (space == Space::Port) {
        return Err(format!("is a {usage}, which does not fit such a number"));
    }
    Ok(Holder {
        service,
        uid: Uid::from(uid),
        usage,
        at: at.into(),
        sharing: sharing.map(read_sharing).transpose()?,
    })
}

fn read_key(text: &str) -> Option<ServiceKey> {
    let (namespace, name) = text.split_once('/')?;
    (!namespace.is_empty() && !name.is_empty()).then(|| ServiceKey {
        namespace: word(namespace),
        name: name.into(),
    })
}

/// On what terms a Service shares a number, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockSharing {
    /// Services share a number only under the same key.
    key: String,
    /// Other namespaces whose Services may share the number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    with: Vec<String>,
    /// The ports that the Service uses on the number, as `TCP/80`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<String>,
    /// The Service's externalTrafficPolicy.
    policy: String,
    /// Its backends: holders with the policy Local must have the same ones.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    backend: String,
}

fn read_sharing(text: &str) -> Result<Sharing, String> {
    let sharing: BlockSharing = serde_json::from_str(text)
        .map_err(|error| format!("has terms of sharing that cannot be read ({error})"))?;
    let ports: Result<Vec<_>, _> = sharing.ports.iter().map(|port| port.parse()).collect();
    let policy = match sharing.policy.as_str() {
        "Cluster" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        other => {
            let other = quoted(other);
            return Err(format!("has the policy {other}, neither Cluster nor Local"));
        }
    };
    Ok(Sharing::from(Terms {
        key: sharing.key.as_str().into(),
        with: sharing
            .with
            .iter()
            .map(|namespace| word(namespace))
            .collect(),
        ports: ports.map_err(|_| "has a port that is not like TCP/80")?,
        policy,
        backend: sharing.backend.as_str().into(),
    }))
}

fn write(number: Number, claim: &Claim) -> Vec<String> {
    match claim {
        Claim::Held(holders) => holders
            .iter()
            .map(|holder| write_holder(number, holder))
            .collect(),
        Claim::Retained { owner, until } => vec![format!("{number} {RETAINED} {owner} {until}")],
    }
}

fn write_holder(number: Number, holder: &Holder) -> String {
    let Holder {
        service,
        uid,
        usage,
        at,
        sharing,
    } = holder;
    let line = format!("{number} {usage} {service} {uid} {at}");
    let Some(sharing) = sharing else { return line };
    let sharing = json!(BlockSharing {
        key: sharing.key.to_string(),
        with: sharing.with.iter().map(Arc::<str>::to_string).collect(),
        ports: sharing.ports.iter().map(ToString::to_string).collect(),
        policy: sharing.policy.as_str().to_owned(),
        backend: sharing.backend.to_string(),
    });
    format!("{line} {sharing}")
}
