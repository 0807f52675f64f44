//! Portolan's own definitions on devapi, and ten thousand Services.

use std::time::Instant;

use devapi::DevApi;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::DynamicObject;
use kube::discovery::Discovery;
use serde_json::json;

#[tokio::test]
async fn every_definition_is_accepted_and_discovered() {
    let client = DevApi::default().client();
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crds::all() {
        let name = definition.metadata.name.clone().unwrap();
        api.patch(
            &name,
            &PatchParams::apply("test").force(),
            &Patch::Apply(&definition),
        )
        .await
        .unwrap();
    }
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let group = discovery.get("portolan.dev").unwrap();
    let kinds: Vec<String> = group
        .recommended_resources()
        .into_iter()
        .map(|(resource, _)| resource.kind)
        .collect();
    assert_eq!(kinds.len(), crds::all().len(), "{kinds:?}");
    let (pools, _) = group.recommended_kind("AddressPool").unwrap();
    let api: Api<DynamicObject> = Api::all_with(client, &pools);
    let pool =
        DynamicObject::new("main", &pools).data(json!({"spec": {"addresses": ["192.0.2.0/24"]}}));
    let made = api.create(&PostParams::default(), &pool).await.unwrap();
    assert_eq!(made.data["spec"]["usage"], "LoadBalancer");
}

/// A load figure, not a verdict: `cargo test -p devapi --release -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a figure"]
async fn ten_thousand_services_are_created_listed_and_patched() {
    let client = DevApi::default().client();
    let api: Api<Service> = Api::default_namespaced(client);
    let started = Instant::now();
    let numbers = futures::stream::iter(0..10_000);
    numbers
        .map(|n| {
            let api = api.clone();
            async move {
                let body = json!({
                    "metadata": {"name": format!("s-{n}")},
                    "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "allocateLoadBalancerNodePorts": false},
                });
                api.create(&PostParams::default(), &serde_json::from_value(body).unwrap()).await.map(|_| ())
            }
        })
        .buffer_unordered(16)
        .try_collect::<()>()
        .await
        .unwrap();
    eprintln!("create 10,000: {:?}", started.elapsed());
    let started = Instant::now();
    assert_eq!(
        api.list(&Default::default()).await.unwrap().items.len(),
        10_000
    );
    eprintln!("list 10,000: {:?}", started.elapsed());
    let started = Instant::now();
    for n in 0..1_000 {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        api.patch_status(
            &format!("s-{n}"),
            &PatchParams::default(),
            &Patch::Merge(status),
        )
        .await
        .unwrap();
    }
    eprintln!(
        "patch 1,000 statuses, one at a time: {:?}",
        started.elapsed()
    );
}
