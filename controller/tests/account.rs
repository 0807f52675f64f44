//! `portolan plan svc/NAME` and `portolan orphans`: the built binary against the embedded API server
//! and moto.
#![cfg(feature = "aws")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{path::PathBuf, process::Output, time::Duration};

use aws::plan::Plan;
use aws_cloud::{Cloud, Connect, Made};
use controller::shell::account::preview::preview;
use crds::LoadBalancerClass;
use k8s_openapi::{
    api::core::v1::{Namespace, Node, Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use model::ServiceKey;
use moto::{Aws, Network};
use serde_json::{Value, json};

const CLUSTER: &str = "demo";

struct Lab {
    aws: Aws,
    network: Network,
    client: Client,
    folder: tempfile::TempDir,
    _front: devapi::Server,
}

impl Lab {
    /// A cluster with a class for AWS and namespace `shop`, an account with three zones.
    async fn start() -> Self {
        let aws = match Aws::start().await {
            Ok(aws) => aws,
            Err(why) => panic!("NOT RUN: {why}"),
        };
        let network = aws.network(3, 3).await.unwrap();
        let server = devapi::DevApi::new(devapi::Options::default());
        let (address, front) = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        std::fs::write(kubeconfig, server.kubeconfig(address)).unwrap();
        let client = server.client();
        for crd in crds::all() {
            create::<CustomResourceDefinition>(Api::all(client.clone()), json!(crd)).await;
        }
        let shop = json!({"metadata": {"name": "shop"}});
        create::<Namespace>(Api::all(client.clone()), shop).await;
        for (name, spec) in [
            (
                "nlb",
                json!({"className": "service.k8s.aws/nlb", "aws": {}}),
            ),
            ("pool", json!({"className": "pool", "pool": {}})),
        ] {
            let class = json!({
                "apiVersion": "portolan.dev/v1alpha1", "kind": "LoadBalancerClass",
                "metadata": {"name": name}, "spec": spec,
            });
            create::<LoadBalancerClass>(Api::all(client.clone()), class).await;
        }
        for instance in &network.instances {
            let node = json!({
                "metadata": {"name": instance.id},
                "spec": {"providerID": instance.provider_id},
            });
            create::<Node>(Api::all(client.clone()), node).await;
        }
        Self {
            aws,
            network,
            client,
            folder,
            _front: front,
        }
    }

    /// With our finalizer, as the controller would have put it.
    async fn service(&self, name: &str) {
        let service = json!({
            "metadata": {"namespace": "shop", "name": name, "finalizers": [crds::FINALIZER]},
            "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb",
                "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
            },
        });
        create::<Service>(self.services(), service).await;
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), "shop")
    }

    async fn patch(&self, name: &str, patch: Value) {
        let parameters = PatchParams::default();
        let patch = Patch::Merge(patch);
        self.services()
            .patch(name, &parameters, &patch)
            .await
            .unwrap();
    }

    async fn gone(&self, name: &str) {
        let parameters = DeleteParams::default();
        let _deleting = self.services().delete(name, &parameters).await.unwrap();
        self.patch(name, json!({"metadata": {"finalizers": null}}))
            .await;
        assert!(self.services().get_opt(name).await.unwrap().is_none());
    }

    async fn cloud(&self) -> Cloud {
        let connect = Connect {
            region: Some(moto::REGION.to_owned()),
            vpc: Some(self.network.vpc.clone()),
            endpoint: Some(self.aws.direct()),
            keys: Some(("a".to_owned(), "b".to_owned())),
            ..Connect::new(CLUSTER)
        };
        Cloud::connect(connect).await.unwrap()
    }

    /// Does what the plan of a Service says, until it says nothing.
    async fn settle(&self, name: &str) {
        let cloud = self.cloud().await;
        let key = ServiceKey::new("shop", name);
        for _ in 0..50 {
            let report = preview(&self.client, &cloud, &key, 0).await.unwrap();
            let planned = &report.load_balancers[0];
            if planned.steps.is_empty() {
                return;
            }
            let plan = Plan {
                steps: planned.steps.clone(),
                show: planned.shows.clone(),
                warnings: vec![],
            };
            cloud.apply(&plan, &mut Made::default()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("no end");
    }

    /// Runs a documented command, on this VPC.
    async fn run(&self, line: &str) -> Output {
        let vpc = &self.network.vpc;
        let line = line.replace("vpc-0123456789abcdef0", vpc);
        let arguments: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
        command
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.folder.path())
            .env("AWS_ENDPOINT_URL", self.aws.endpoint())
            .env("AWS_REGION", moto::REGION)
            .env("AWS_ACCESS_KEY_ID", "a")
            .env("AWS_SECRET_ACCESS_KEY", "b");
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    async fn json(&self, line: &str) -> Value {
        let done = self.run(&format!("{line} -o json")).await;
        let errors = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{line}: {errors}");
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// Calls since the last time that are no questions.
    fn writes(&self) -> Vec<String> {
        let counts = self.aws.counts().into_keys();
        let writes = counts.filter(|action| !action.starts_with("Describe"));
        let writes = writes.collect();
        self.aws.forget_calls();
        writes
    }

    async fn names(&self) -> Vec<String> {
        let query = self.aws.query();
        let action = "DescribeLoadBalancers";
        let reply = query.call(moto::Service::Elbv2, action, &[]).await;
        let mut names = reply.unwrap().all("LoadBalancerName");
        names.sort();
        names
    }

    /// A load balancer that carries these tags only.
    async fn foreign(&self, name: &str, tags: &[(&str, &str)]) {
        let mut form = vec![
            ("Name".to_owned(), name.to_owned()),
            ("Type".to_owned(), "network".to_owned()),
            (
                "Subnets.member.1".to_owned(),
                self.network.subnets[0].id.clone(),
            ),
        ];
        for (number, (key, value)) in tags.iter().enumerate() {
            let tag = format!("Tags.member.{}", number + 1);
            form.push((format!("{tag}.Key"), (*key).to_owned()));
            form.push((format!("{tag}.Value"), (*value).to_owned()));
        }
        let form: Vec<(&str, &str)> = (form.iter())
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let query = self.aws.query();
        let reply = query.call(moto::Service::Elbv2, "CreateLoadBalancer", &form);
        let reply = reply.await.unwrap();
        assert!(reply.status.is_success(), "{reply:?}");
    }
}

async fn create<K>(api: Api<K>, object: Value)
where
    K: Resource + serde::Serialize + serde::de::DeserializeOwned + Clone + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

fn actions(planned: &Value) -> Vec<&str> {
    let steps = planned["steps"].as_array().unwrap().iter();
    steps.map(|step| step["action"].as_str().unwrap()).collect()
}

// runs: portolan plan svc/web --namespace shop --cluster-name demo --aws-vpc-id vpc-0123456789abcdef0
const PLAN: &str =
    "portolan plan svc/web --namespace shop --cluster-name demo --aws-vpc-id vpc-0123456789abcdef0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moto: needs Python and PyPI"]
async fn a_service_is_planned_from_nothing_to_its_removal_and_nothing_is_written() {
    let lab = Lab::start().await;
    lab.service("web").await;
    let before = lab.services().get("web").await.unwrap();

    let plan = lab.json(PLAN).await;
    assert_eq!(lab.writes(), Vec::<String>::new());
    assert_eq!(lab.services().get("web").await.unwrap(), before);
    let first = &plan["loadBalancers"][0];
    assert_eq!(first["stack"], "shop/web");
    assert_eq!(first["there"], json!([]));
    assert_eq!(first["subnets"].as_array().unwrap().len(), 3);
    assert_eq!(plan["assumed"], json!([]));
    let expected = [
        "CreateSecurityGroup",
        "AuthorizeSecurityGroupIngress",
        "CreateTargetGroup",
        "RegisterTargets",
        "CreateLoadBalancer",
        "CreateListener",
        "AddTags",
    ];
    assert_eq!(actions(first), expected);

    // It comes true as planned, and then there is nothing to do.
    lab.settle("web").await;
    let plan = lab.json(PLAN).await;
    let there = &plan["loadBalancers"][0];
    assert_eq!(actions(there), Vec::<&str>::new());
    assert_eq!(there["there"].as_array().unwrap().len(), 3);
    let name = there["wanted"]["loadBalancer"]["name"].as_str().unwrap();
    assert_eq!(lab.names().await, [name]);

    // A change is planned as a change.
    let ports = json!([
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "https", "port": 443, "nodePort": 30443},
    ]);
    lab.patch("web", json!({"spec": {"ports": ports}})).await;
    let plan = lab.json(PLAN).await;
    let expected = [
        "AuthorizeSecurityGroupIngress",
        "CreateTargetGroup",
        "RegisterTargets",
        "CreateListener",
        "AddTags",
    ];
    assert_eq!(actions(&plan["loadBalancers"][0]), expected);

    // A bad wish is refused.
    let scheme = "service.beta.kubernetes.io/aws-load-balancer-scheme";
    lab.patch(
        "web",
        json!({"metadata": {"annotations": {scheme: "publik"}}}),
    )
    .await;
    let done = lab.run(PLAN).await;
    assert_eq!(done.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        printed.contains("REJECTED\n  * Service shop/web (InvalidRequest)"),
        "{printed}"
    );
    lab.patch("web", json!({"metadata": {"annotations": null}}))
        .await;

    // What goes is planned as going: for a deleted Service and for one of another type.
    let parameters = DeleteParams::default();
    let _deleting = lab.services().delete("web", &parameters).await.unwrap();
    let plan = lab.json(PLAN).await;
    let going = &plan["loadBalancers"][0];
    assert_eq!(going["wanted"], Value::Null);
    assert_eq!(going["effect"], "drain");
    assert_eq!(actions(going), ["DeregisterTargets", "Wait"]);
    lab.patch("web", json!({"metadata": {"finalizers": null}}))
        .await;
    let done = lab.run(PLAN).await;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("Service shop/web does not exist"), "{said}");
    lab.aws.forget_calls();
    lab.service("web").await;
    lab.patch(
        "web",
        json!({"spec": {"type": "ClusterIP", "loadBalancerClass": null}}),
    )
    .await;
    let plan = lab.json(PLAN).await;
    assert_eq!(
        actions(&plan["loadBalancers"][0]),
        ["DeregisterTargets", "Wait"]
    );
    assert_eq!(lab.writes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moto: needs Python and PyPI"]
async fn members_of_a_group_are_planned_together_and_a_leaving_one_does_not_take_it_down() {
    let lab = Lab::start().await;
    let group = json!({"metadata": {"annotations": {"portolan.dev/load-balancer-group": "front"}}});
    for name in ["web", "api"] {
        lab.service(name).await;
        lab.patch(name, group.clone()).await;
    }
    let other = json!({"spec": {"ports": [{"name": "http", "port": 81, "nodePort": 30081}]}});
    lab.patch("api", other).await;
    let plan = lab.json(PLAN).await;
    let planned = &plan["loadBalancers"][0];
    assert_eq!(planned["stack"], "shop/group:front");
    assert_eq!(planned["services"].as_array().unwrap().len(), 2);
    lab.settle("web").await;
    lab.patch(
        "web",
        json!({"spec": {"type": "ClusterIP", "loadBalancerClass": null}}),
    )
    .await;
    let plan = lab.json(PLAN).await;
    let planned = &plan["loadBalancers"][0];
    assert_eq!(planned["services"], json!(["shop/api"]));
    // Only what the other one had: its rule and its target group.
    let expected = ["RevokeSecurityGroupIngress", "DeregisterTargets", "Wait"];
    assert_eq!(actions(planned), expected);
    assert_eq!(planned["steps"][1]["targets"].as_array().unwrap().len(), 3);
}

// runs: portolan orphans --cluster-name demo --aws-vpc-id vpc-0123456789abcdef0
const ORPHANS: &str = "portolan orphans --cluster-name demo --aws-vpc-id vpc-0123456789abcdef0";
// runs: portolan orphans --delete --cluster-name demo --aws-vpc-id vpc-0123456789abcdef0
const DELETE: &str =
    "portolan orphans --delete --cluster-name demo --aws-vpc-id vpc-0123456789abcdef0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "moto: needs Python and PyPI"]
async fn orphans_are_listed_and_go_when_told_to_and_nobody_elses_load_balancer_does() {
    let lab = Lab::start().await;
    for name in ["gone", "moved", "stays", "classless"] {
        lab.service(name).await;
        lab.settle(name).await;
    }
    let lbc = [
        ("elbv2.k8s.aws/cluster", CLUSTER),
        ("service.k8s.aws/stack", "shop/lbcs"),
        ("service.k8s.aws/resource", "LoadBalancer"),
    ];
    lab.foreign("lbcs", &lbc).await;
    let other = [
        ("portolan.dev/cluster", "another"),
        ("portolan.dev/stack", "shop/theirs"),
    ];
    lab.foreign("anothers", &other).await;
    let found = lab.json(ORPHANS).await;
    assert_eq!(found["orphans"], json!([]));

    lab.gone("gone").await;
    lab.patch(
        "moved",
        json!({"metadata": {"finalizers": null}, "spec": {"type": "ClusterIP", "loadBalancerClass": null}}),
    )
    .await;
    // The class of this one is gone: it keeps what it has, with our finalizer or without.
    lab.services()
        .delete("classless", &DeleteParams::default())
        .await
        .unwrap();
    lab.patch("classless", json!({"metadata": {"finalizers": null}}))
        .await;
    let service = json!({
        "metadata": {"namespace": "shop", "name": "classless"},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "no.such/class",
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        },
    });
    create::<Service>(lab.services(), service).await;
    lab.aws.forget_calls();

    let found = lab.json(ORPHANS).await;
    assert_eq!(lab.writes(), Vec::<String>::new(), "it only lists");
    let orphans = found["orphans"].as_array().unwrap();
    // A Service whose class is gone protects its whole namespace: its group cannot be known.
    assert_eq!(orphans.len(), 0, "{orphans:#?}");
    lab.services()
        .delete("classless", &DeleteParams::default())
        .await
        .unwrap();

    let found = lab.json(ORPHANS).await;
    let whys: Vec<(&str, &str)> = (found["orphans"].as_array().unwrap().iter())
        .map(|each| {
            (
                each["stack"].as_str().unwrap(),
                each["why"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("shop/classless", "Service shop/classless does not exist"),
        ("shop/gone", "Service shop/gone does not exist"),
        (
            "shop/moved",
            "Service shop/moved is no longer of a type and class that AWS serves",
        ),
    ];
    assert_eq!(whys, expected);
    let first = &found["orphans"][0];
    assert_eq!(first["there"].as_array().unwrap().len(), 3);
    assert_eq!(actions(first), ["DeregisterTargets", "Wait"]);
    assert_eq!(first["deleted"], false);

    let done = lab.run(DELETE).await;
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{printed}");
    assert!(printed.starts_with("DELETED shop/classless: "), "{printed}");
    let names = lab.names().await;
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!((&*names[0], &*names[2]), ("anothers", "lbcs"));
    assert!(names[1].starts_with("k8s-shop-stays-"), "{names:?}");
    let found = lab.json(ORPHANS).await;
    assert_eq!(found["orphans"], json!([]));
    lab.settle("stays").await;
}
