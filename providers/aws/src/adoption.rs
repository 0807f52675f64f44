//! Who may put his listeners on a load balancer that somebody else has made (`portolan.dev/adopt`).
//!
//! Its owner consents, on the load balancer ([`tags::ADOPTABLE`]) or in the class; a Service cannot.
//! What is adopted stays its owner's: it gets listeners on ports that are free, and loses these when
//! the Service goes. It is never changed otherwise, and never deleted: DIFF has it apart from what is
//! ours (`seen::Seen::foreign`).

use crate::{
    Rejection,
    annotations::ADOPT,
    input::Class,
    quoted,
    seen::LoadBalancer,
    tags::{self, ADOPTABLE},
};

#[cfg(test)]
mod tests;

/// What cloud-provider-aws writes on the load balancer of a Service: `namespace/name`.
const IN_TREE: &str = "kubernetes.io/service-name";

/// Whether a stack may put listeners on `there`.
///
/// # Errors
/// It is somebody's who would undo that or fall victim to it, or nobody has consented.
pub fn adoptable(class: &Class, stack: &str, there: &LoadBalancer) -> Result<(), Rejection> {
    if tags::stack(&there.tags, &class.cluster) == Some(stack) {
        return Err(Rejection::conflict(format!(
            "annotation {ADOPT}: load balancer {} is this Service's own: remove the annotation",
            there.name
        )));
    }
    if let Some((key, value)) = there.tags.iter().find(|(key, _)| is_owner(key)) {
        return Err(Rejection::conflict(format!(
            "annotation {ADOPT}: load balancer {} is another's, as its tag {} says: only one that no \
             controller has made can be adopted",
            there.name,
            quoted(&format!("{key}={value}"))
        )));
    }
    let consents = class.adoptable.contains(&there.arn)
        || (there.tags.get(ADOPTABLE)).is_some_and(|said| consents(said, &class.cluster, stack));
    if consents {
        return Ok(());
    }
    Err(Rejection::conflict(format!(
        "annotation {ADOPT}: load balancer {} does not consent: give it the tag {ADOPTABLE} with the \
         value {} (or {}/NAMESPACE for the Services of one namespace), or add its ARN to \
         spec.aws.adoptable of LoadBalancerClass {}",
        there.name, class.cluster, class.cluster, class.name
    )))
}

/// Tags of controllers that believe a load balancer to be theirs: ours, LBC's for Services, Ingresses
/// and Gateways, cloud-provider-aws's.
fn is_owner(key: &str) -> bool {
    key == tags::CLUSTER
        || key == tags::STACK
        || key == IN_TREE
        || key
            .split_once(".k8s.aws/")
            .is_some_and(|(_, word)| ["cluster", "stack"].contains(&word))
}

/// `cluster`: any of its Services; `cluster/namespace`: those of one namespace. A group that is in no
/// namespace has the former only.
fn consents(said: &str, cluster: &str, stack: &str) -> bool {
    let rest = said.strip_prefix(cluster);
    let namespace = stack.split_once('/').map(|(namespace, _)| namespace);
    rest == Some("")
        || rest
            .and_then(|rest| rest.strip_prefix('/'))
            .is_some_and(|said| Some(said) == namespace)
}
