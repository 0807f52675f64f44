//! The thinnest use: a typed client and a watcher, in process.
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use serde_json::json;

#[tokio::test]
async fn a_typed_client_creates_lists_patches_and_watches() {
    let api = devapi::DevApi::default();
    let services: Api<Service> = Api::default_namespaced(api.client());
    let svc: Service = serde_json::from_value(
        json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}),
    )
    .unwrap();
    let made = services.create(&PostParams::default(), &svc).await.unwrap();
    let list = services.list(&Default::default()).await.unwrap();
    assert_eq!(list.items, vec![made.clone()]);
    let mut stream = Box::pin(watcher(
        services.clone(),
        watcher::Config::default().streaming_lists(),
    ));
    assert!(matches!(
        stream.next().await.unwrap().unwrap(),
        watcher::Event::Init
    ));
    assert!(
        matches!(stream.next().await.unwrap().unwrap(), watcher::Event::InitApply(s) if s == made)
    );
    assert!(matches!(
        stream.next().await.unwrap().unwrap(),
        watcher::Event::InitDone
    ));
    let patch = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
    let new = services
        .patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert!(matches!(stream.next().await.unwrap().unwrap(), watcher::Event::Apply(s) if s == new));
}
