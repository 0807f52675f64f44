//! By which tags a resource is known to be ours, and which tags users may add. Nothing without
//! [`CLUSTER`] and [`STACK`] is ever touched.

use std::collections::BTreeMap;

use crate::{Rejection, annotations::PREFIX, input::Class, quoted, wanted::Tags};

/// Ours: the cluster.
pub const CLUSTER: &str = "portolan.dev/cluster";
/// Ours: what it is for, [`crate::wanted::Wanted::stack`].
pub const STACK: &str = "portolan.dev/stack";
/// Fingerprint of what was last applied to the resource.
pub const APPLIED: &str = "portolan.dev/applied";
/// Fingerprint of the targets that were last registered.
pub const APPLIED_TARGETS: &str = "portolan.dev/applied-targets";
/// Since when nothing shows the name of this load balancer any longer; Unix seconds.
pub const RETIRED: &str = "portolan.dev/retired";
/// What becomes of the load balancer when nobody wants it any longer: `delete` or `retain`. Written
/// down where it is found when the Service, its annotations and its class are gone.
pub const ON_DELETE: &str = "portolan.dev/on-delete";
/// Consent of a load balancer's owner that Services put listeners on it ([`crate::adoption`]): the
/// cluster's name, or `cluster/namespace`.
pub const ADOPTABLE: &str = "portolan.dev/adoptable";
/// LBC: the cluster.
pub const LBC_CLUSTER: &str = "elbv2.k8s.aws/cluster";
/// LBC: the stack.
pub const LBC_STACK: &str = "service.k8s.aws/stack";
/// LBC: which resource of the stack.
pub const LBC_RESOURCE: &str = "service.k8s.aws/resource";
/// As [`STACK`] of the security group that the nodes let in ([`crate::nodes`]): no Service's and no
/// group's stack is without `/` or `:`.
pub const TRAFFIC: &str = "traffic";
/// LBC's word for the load balancer within its stack.
pub const RESOURCE_LOAD_BALANCER: &str = "LoadBalancer";
/// LBC's word for the security group within its stack.
pub const RESOURCE_SECURITY_GROUP: &str = "ManagedLBSecurityGroup";

/// Prefixes of keys that are not users'.
const OURS: [&str; 4] = [
    "portolan.dev/",
    "elbv2.k8s.aws/",
    "service.k8s.aws/",
    "aws:",
];
/// AWS: so many tags on one resource; five and four marks (applied, applied-targets, retired,
/// on-delete) are ours.
const MOST: usize = 50 - 9;

/// Whether a key says whose a resource is and what became of it: ours, or LBC's, which would take the
/// resource up again.
pub(crate) fn is_ownership(key: &str) -> bool {
    let [ours, lbc_cluster, lbc_stack, _aws] = OURS;
    key != ADOPTABLE
        && [ours, lbc_cluster, lbc_stack]
            .iter()
            .any(|prefix| key.starts_with(prefix))
}

/// The stack of a resource with these tags, if it is this cluster's: by our words, else by LBC's.
pub fn stack<'a>(found: &'a Tags, cluster: &str) -> Option<&'a str> {
    let pair = |cluster_key, stack_key| {
        let ours = found.get(cluster_key).is_some_and(|name| name == cluster);
        found.get(stack_key).filter(|_| ours).map(String::as_str)
    };
    pair(CLUSTER, STACK).or_else(|| pair(LBC_CLUSTER, LBC_STACK))
}

/// All tags of one resource; those that make it ours win.
pub fn of(class: &Class, stack: &str, resource: &str, users: &Tags) -> Tags {
    let ours = [
        (CLUSTER, class.cluster.as_str()),
        (STACK, stack),
        (LBC_CLUSTER, class.cluster.as_str()),
        (LBC_STACK, stack),
        (LBC_RESOURCE, resource),
    ];
    let mut tags = users.clone();
    tags.extend(ours.map(|(key, value)| (key.to_owned(), value.to_owned())));
    tags
}

/// The tags of a Service and its class; the class's win, as LBC's `--default-tags` do.
///
/// # Errors
/// A key that is ours, LBC's or AWS's, or that AWS would refuse.
pub fn users(class: &Class, asked: &BTreeMap<String, String>) -> Result<Tags, Rejection> {
    check(
        "annotation ",
        &format!("{PREFIX}additional-resource-tags"),
        asked,
    )?;
    let place = format!("LoadBalancerClass {}: ", class.name);
    check(&place, "spec.aws.tags", &class.tags)?;
    let mut tags = asked.clone();
    tags.extend(
        class
            .tags
            .iter()
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    if tags.len() > MOST {
        return Err(Rejection::invalid(format!(
            "annotation {PREFIX}additional-resource-tags and the class have {} tags together, but \
             AWS has room for {MOST} beside those that Portolan needs: remove some",
            tags.len()
        )));
    }
    Ok(tags)
}

fn check(place: &str, name: &str, tags: &BTreeMap<String, String>) -> Result<(), Rejection> {
    for (key, value) in tags {
        let lower = key.to_ascii_lowercase();
        if let Some(prefix) = OURS.iter().find(|prefix| lower.starts_with(*prefix)) {
            return Err(Rejection::invalid(format!(
                "{place}{name}: the key {} begins with {prefix}, which is reserved: choose another \
                 key",
                quoted(key)
            )));
        }
        let valid = |text: &str, most: usize| {
            text.chars().count() <= most
                && text
                    .chars()
                    .all(|character| character.is_alphanumeric() || " +-=._:/@".contains(character))
        };
        if key.is_empty() || !valid(key, 128) || !valid(value, 256) {
            return Err(Rejection::invalid(format!(
                "{place}{name}: {} is not a tag that AWS takes: write at most 128 characters as \
                 key and 256 as value, of letters, digits, spaces and + - = . _ : / @",
                quoted(&format!("{key}={value}"))
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        fixtures::map(pairs)
    }

    #[test]
    fn a_resource_has_our_tags_and_lbcs() {
        let tags = of(
            &fixtures::class(),
            "shop/web",
            "LoadBalancer",
            &map(&[("team", "a")]),
        );
        let expected = map(&[
            ("portolan.dev/cluster", "test"),
            ("portolan.dev/stack", "shop/web"),
            ("elbv2.k8s.aws/cluster", "test"),
            ("service.k8s.aws/stack", "shop/web"),
            ("service.k8s.aws/resource", "LoadBalancer"),
            ("team", "a"),
        ]);
        assert_eq!(tags, expected);
    }

    #[test]
    fn a_resource_is_ours_by_our_tags_or_lbcs_and_never_by_half() {
        for (pairs, expected) in [
            (&[(CLUSTER, "blue"), (STACK, "a/b")][..], Some("a/b")),
            (&[(LBC_CLUSTER, "blue"), (LBC_STACK, "a/b")], Some("a/b")),
            (&[(CLUSTER, "green"), (STACK, "a/b")], None),
            (&[(CLUSTER, "blue")], None),
            (&[(STACK, "a/b")], None),
            (&[(CLUSTER, "blue"), (LBC_STACK, "a/b")], None),
            (&[], None),
        ] {
            assert_eq!(stack(&map(pairs), "blue"), expected, "{pairs:?}");
        }
    }

    #[test]
    fn keys_that_are_not_users_are_refused() {
        for key in [
            "portolan.dev/cluster",
            "portolan.dev/anything",
            "elbv2.k8s.aws/cluster",
            "service.k8s.aws/stack",
            "aws:cloudformation:stack-name",
            "AWS:x",
            "",
            "a#b",
        ] {
            let refused = users(&fixtures::class(), &map(&[(key, "x")])).unwrap_err();
            assert!(
                refused.message.contains("additional-resource-tags"),
                "{}",
                refused.message
            );
            let mut class = fixtures::class();
            class.tags = map(&[(key, "x")]);
            let refused = users(&class, &map(&[])).unwrap_err();
            assert!(
                refused.message.contains("LoadBalancerClass cloud"),
                "{}",
                refused.message
            );
        }
    }

    #[test]
    fn the_class_wins_over_the_service() {
        let mut class = fixtures::class();
        class.tags = map(&[("cost", "platform")]);
        let tags = users(&class, &map(&[("cost", "mine"), ("team", "a")])).unwrap();
        assert_eq!(tags, map(&[("cost", "platform"), ("team", "a")]));
    }

    #[test]
    fn more_tags_than_aws_takes_are_refused() {
        let many = (0..42).map(|n| (format!("k{n}"), String::new())).collect();
        let refused = users(&fixtures::class(), &many).unwrap_err();
        assert!(refused.message.contains("42 tags"), "{}", refused.message);
    }
}
