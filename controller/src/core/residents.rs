//! Whose a load balancer in AWS may be, for the decision which are orphans.

use aws::{desired, orphans::Resident};

use super::{
    index::{ClassMatch, Index},
    record::{Provider, ServiceRecord, ServiceType},
};

/// Every Service of the index.
pub fn residents(index: &Index) -> Vec<Resident> {
    let services = index.services();
    services.map(|record| resident(index, record)).collect()
}

fn resident(index: &Index, record: &ServiceRecord) -> Resident {
    let class = (record.service_type == ServiceType::LoadBalancer).then(|| index.class_of(record));
    let aws = match class {
        Some(ClassMatch::Ours(class)) => match &class.provider {
            Provider::Aws(class) => Some(class),
            Provider::Pool(_) | Provider::Gcp => None,
        },
        Some(ClassMatch::Gone) | None => None,
    };
    let stack = match (&record.cloud, aws) {
        (Some(service), Some(class)) => desired::stack(service, class).ok(),
        // A class that is not known any longer may have set the group.
        (Some(_) | None, _) => None,
    };
    Resident {
        key: record.key.clone(),
        served: record.has_finalizer() || aws.is_some() || class == Some(ClassMatch::Gone),
        stack,
        shown: record.shown_hostname().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "test code: a broken assumption must end the test"
    )]

    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::core::translate;

    fn index(service: Value) -> Index {
        let mut index = Index::default();
        let specs = [
            ("nlb", json!({"className": "nlb", "aws": {}})),
            ("pool", json!({"className": "pool", "pool": {}})),
        ];
        for (name, spec) in specs {
            let metadata = json!({"name": name, "uid": name, "resourceVersion": "1"});
            let class = json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
                "metadata": metadata, "spec": spec,
            });
            let class = serde_json::from_value(class).unwrap();
            index.set_class(translate::class(&class).unwrap());
        }
        let service = serde_json::from_value(service).unwrap();
        index.set_service(Arc::new(translate::service(&service).unwrap()));
        index
    }

    fn service(finalizers: Value, annotations: Value, spec: Value) -> Value {
        json!({
            "metadata": {
                "namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "1",
                "finalizers": finalizers, "annotations": annotations,
            },
            "spec": spec,
        })
    }

    #[test]
    fn a_service_is_served_by_class_or_finalizer_and_its_stack_known_by_its_class_only() {
        let lb = |class| json!({"type": "LoadBalancer", "loadBalancerClass": class});
        let ours = json!([crds::FINALIZER]);
        let group = json!({"portolan.dev/load-balancer-group": "front"});
        let none = || json!({});
        let own = Some("shop/web");
        let rows = [
            (json!([]), none(), lb("nlb"), true, own),
            (json!([]), group, lb("nlb"), true, Some("shop/group:front")),
            (
                json!([]),
                json!({"portolan.dev/load-balancer-group": "?"}),
                lb("nlb"),
                true,
                None,
            ),
            (json!([]), none(), lb("gone"), true, None),
            (json!([]), none(), lb("pool"), false, None),
            (ours.clone(), none(), lb("pool"), true, None),
            (json!([]), none(), json!({"type": "ClusterIP"}), false, None),
            (ours, none(), json!({"type": "ClusterIP"}), true, None),
        ];
        for (number, (finalizers, annotations, spec, served, stack)) in rows.into_iter().enumerate()
        {
            let index = index(service(finalizers, annotations, spec));
            let found = residents(&index);
            let found = found.first().unwrap();
            let got = (found.served, found.stack.as_deref());
            assert_eq!(got, (served, stack), "row {number}");
        }
    }
}
