//! Portolan's own definitions on devapi, and ten thousand Services.

use devapi::DevApi;

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
