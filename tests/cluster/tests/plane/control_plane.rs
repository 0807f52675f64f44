//! The control plane itself: several at once, RBAC, the audit log, nothing left behind.

use cluster::Options;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, api::PostParams};

use crate::common::real;

fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn two_at_once_know_nothing_of_each_other_and_leave_nothing_behind() {
    let (one, two) = tokio::join!(real(Options::default()), real(Options::default()));
    let of = |client| Api::<Namespace>::all(client);
    let namespace: Namespace =
        serde_json::from_str(r#"{"metadata": {"name": "only-in-one"}}"#).unwrap();
    of(one.plane.client().await.unwrap())
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let other = of(two.plane.client().await.unwrap());
    assert!(other.get_opt("only-in-one").await.unwrap().is_none());
    for real in [one, two] {
        let folder = real.plane.folder().to_owned();
        let pids = ["etcd", "kube-apiserver"].map(|part| real.plane.pid(part).unwrap());
        drop(real);
        assert!(!folder.exists());
        assert_eq!(pids.map(alive), [false, false]);
    }
}

#[tokio::test]
#[ignore = "real Kubernetes: cargo xtask cluster build, then cargo test -p cluster -- --ignored"]
async fn a_service_account_may_do_nothing_until_it_is_allowed_and_the_audit_log_says_so() {
    let real = real(Options::default()).await;
    let accounts: Api<ServiceAccount> =
        Api::namespaced(real.plane.client().await.unwrap(), "default");
    let account = serde_json::from_str(r#"{"metadata": {"name": "nobody"}}"#).unwrap();
    accounts
        .create(&PostParams::default(), &account)
        .await
        .unwrap();
    let token = real.plane.service_account_token("default", "nobody").await;
    let client = real.plane.client_as(&token.unwrap()).await.unwrap();
    let refused = Api::<Namespace>::all(client)
        .get("default")
        .await
        .unwrap_err();
    let kube::Error::Api(status) = refused else {
        panic!("{refused}");
    };
    assert_eq!(status.code, 403);
    let log = real.plane.audit().unwrap();
    let line = (log.iter())
        .find(|line| line.user.username == "system:serviceaccount:default:nobody")
        .unwrap();
    assert_eq!((line.verb.as_str(), line.code()), ("get", 403));
    assert_eq!(line.resource(), "namespaces");
}
