//! What speakers may do, and who knows their key.

use std::{collections::BTreeSet, io::Write as _};

use serde_json::{Value, json};

use super::town::{NAMESPACE, NODES, REJOIN, Town};

/// The pod of the speaker on a node.
fn speaker(town: &Town, node: &str) -> Value {
    town.until("the node has a speaker", || {
        let pods = town.list("pods", NAMESPACE);
        let ours = pods.into_iter().find(|pod| {
            pod["metadata"]["labels"]["app.kubernetes.io/component"] == "speaker"
                && pod["spec"]["nodeName"] == node
                && pod["metadata"]["deletionTimestamp"].is_null()
        });
        ours.ok_or_else(|| format!("none on {node}"))
    })
}

/// A token of the speakers' ServiceAccount, as the kubelet gets for this pod, or bound to nothing.
fn token(town: &Town, pod: Option<&Value>) -> String {
    let create = ["-n", NAMESPACE, "create", "token", "portolan-speaker"];
    let bound = pod.map(|pod| {
        let of = |field: &str| pod["metadata"][field].as_str().unwrap();
        [
            "--bound-object-kind=Pod".to_owned(),
            format!("--bound-object-name={}", of("name")),
            format!("--bound-object-uid={}", of("uid")),
        ]
    });
    let bound = bound.iter().flatten().map(String::as_str);
    let arguments: Vec<&str> = create.into_iter().chain(bound).collect();
    town.kubectl(&arguments).trim().to_owned()
}

/// What the API server answers to whoever has this token.
fn as_bearer(
    town: &Town,
    token: &str,
    arguments: &[&str],
    object: &Value,
) -> Result<String, String> {
    let kubeconfig = (town.lab.plane())
        .kubeconfig_file("speaker-test", token)
        .unwrap();
    let mut kubectl = cluster::Binary::build().unwrap().part("kubectl");
    let mut child = kubectl
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(object.to_string().as_bytes()).unwrap();
    drop(stdin);
    super::kubectl::told(child.wait_with_output().unwrap())
}

fn status(name: &str) -> Value {
    json!({
        "apiVersion": "portolan.dev/v1alpha1", "kind": "SpeakerStatus",
        "metadata": {"name": name}, "spec": {"services": ["shop/forged"]},
    })
}

pub(crate) fn a_node_writes_its_own_status_only(town: &mut Town) {
    let create = ["create", "--validate=false", "-f", "-"];
    let [own, other, _] = NODES;
    let pod = speaker(town, own);
    let bound = token(town, Some(&pod));
    let patch = |name: &str| {
        let patch = r#"{"metadata": {"labels": {"seen": "yes"}}}"#;
        let arguments = ["patch", "speakerstatus", name, "--type=merge", "-p", patch];
        as_bearer(town, &bound, &arguments, &Value::Null)
    };
    // kubectl reads before it patches, which a speaker may not.
    let get = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "test-reads"},
        "rules": [{"apiGroups": ["portolan.dev"], "resources": ["speakerstatuses"],
            "verbs": ["get", "delete"]}],
    });
    town.apply(&get);
    town.apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "test-reads"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "test-reads"},
        "subjects": [{"kind": "ServiceAccount", "name": "portolan-speaker",
            "namespace": NAMESPACE}],
    }));
    town.until("it may write its own", || patch(own));
    let refused = |told: Result<String, String>| {
        let why = told.expect_err("another's status was written");
        assert!(
            why.contains("only the SpeakerStatus named as its node"),
            "{why}"
        );
    };
    refused(patch(other));
    refused(as_bearer(town, &bound, &create, &status("node9")));
    let delete = ["delete", "speakerstatus", other];
    refused(as_bearer(town, &bound, &delete, &Value::Null));
    // Nor an owner that would keep or remove it at another's will.
    let owners = r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node",
        "name": "node2", "uid": "1"}]}}"#;
    let adopt = ["patch", "speakerstatus", own, "--type=merge", "-p", owners];
    let why = as_bearer(town, &bound, &adopt, &Value::Null).expect_err("it was adopted");
    assert!(why.contains("owned by the Node of its name"), "{why}");
    // A token that is bound to no node writes nothing at all.
    let unbound = token(town, None);
    let why = as_bearer(town, &unbound, &create, &status("node9"))
        .expect_err("a token without a node wrote");
    assert!(why.contains("bound to no node"), "{why}");
    town.kubectl(&["delete", "clusterrole,clusterrolebinding", "test-reads"]);
}

pub(crate) fn the_key_survives_an_upgrade_of_the_chart(town: &mut Town) {
    let secret = || town.get(NAMESPACE, "secret/portolan-speaker-keys");
    let before = secret();
    assert_eq!(before["data"].as_object().unwrap().len(), 1);
    let rejoin = format!("speaker.rejoinDelay={}s", REJOIN.as_secs());
    let other = "speaker.podAnnotations.example\\.com/upgraded=yes";
    town.helm(NAMESPACE, &["speaker.enabled=true", &rejoin, other]);
    for field in ["uid", "resourceVersion"] {
        assert_eq!(secret()["metadata"][field], before["metadata"][field]);
    }
}

pub(crate) fn speakers_run_with_the_least_privilege(town: &mut Town) {
    let addresses = town.serve("rights", &json!({}));
    for node in NODES {
        let pod = speaker(town, node);
        assert_eq!(pod["spec"]["serviceAccountName"], "portolan-speaker");
        let pids = (town.lab.processes(node, super::town::SPEAKER)).unwrap();
        assert_eq!(pids.len(), 1, "{node}");
        // As the kernel sees it: NET_RAW is bit 13, and nothing can be gained.
        let status = std::fs::read_to_string(format!("/proc/{}/status", pids[0])).unwrap();
        for (field, wanted) in [
            ("CapEff:", "0000000000002000"),
            ("CapPrm:", "0000000000002000"),
            ("CapBnd:", "0000000000002000"),
            ("NoNewPrivs:", "1"),
            ("Seccomp:", "2"),
        ] {
            let line = status.lines().find(|line| line.starts_with(field)).unwrap();
            assert_eq!(
                line.split_whitespace().last(),
                Some(wanted),
                "{node}: {line}"
            );
        }
    }
    for ip in &addresses {
        town.curl(ip, "/hostname");
    }
    // All that they asked the API server for was granted. One that has just started refuses for a
    // moment what it grants afterwards: its roles are not read yet.
    let lines = town.lab.plane().audit().unwrap();
    let user = format!("system:serviceaccount:{NAMESPACE}:portolan-speaker");
    let ours: Vec<_> = (lines.iter())
        .filter(|line| line.user.username == user && !line.user_agent.starts_with("kubectl"))
        .map(|line| {
            let path = line.request_uri.split('?').next().unwrap_or_default();
            (line.code() == 403, format!("{} {path}", line.verb))
        })
        .collect();
    let of = |is_refused: bool| -> BTreeSet<&str> {
        let those = ours.iter().filter(|(refused, _)| *refused == is_refused);
        those.map(|(_, asked)| asked.as_str()).collect()
    };
    assert!(!of(false).is_empty(), "they asked for nothing");
    let refused: Vec<_> = of(true).difference(&of(false)).copied().collect();
    assert_eq!(refused, [""; 0]);
}
