//! The commands of a real kubectl against the HTTP front. Where there is no kubectl this says so, loudly.

#![expect(
    clippy::unwrap_used,
    reason = "a test helper that cannot go on should panic"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use devapi::{DevApi, Options, Server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

struct Shell {
    _server: Server,
    folder: tempfile::TempDir,
}

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: addresspools.portolan.dev}
spec:
  group: portolan.dev
  scope: Cluster
  names: {plural: addresspools, singular: addresspool, kind: AddressPool, shortNames: [apool]}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Priority, type: integer, jsonPath: .spec.priority}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              addresses: {type: array, items: {type: string}}
              priority: {type: integer, default: 0}
          status:
            type: object
            properties:
              conditions:
                type: array
                items: {type: object, properties: {type: {type: string}, status: {type: string}}}
"#;

const POOL: &str = "apiVersion: portolan.dev/v1alpha1\nkind: AddressPool\nmetadata: {name: main}\nspec: {addresses: [192.0.2.0/24]}\n";

const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {tier: front}}\nspec:\n  type: LoadBalancer\n  selector: {app: web}\n  ports: [{name: http, port: 80}]\n";

impl Shell {
    /// `None` where there is no kubectl.
    async fn start() -> Option<Self> {
        if Command::new("kubectl")
            .arg("version")
            .arg("--client")
            .output()
            .await
            .is_err()
        {
            eprintln!(
                "NOT RUN: there is no kubectl on this machine, so its commands were not tried"
            );
            return None;
        }
        let api = DevApi::new(Options::default());
        let (address, server): (SocketAddr, Server) =
            api.serve(([127, 0, 0, 1], 0).into()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config"), api.kubeconfig(address)).unwrap();
        let shell = Self {
            _server: server,
            folder,
        };
        shell.feed(&["apply", "-f", "-"], DEFINITION).await;
        Some(shell)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn kubectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .env("KUBECONFIG", self.path("config"))
            .env("HOME", self.folder.path())
            .args(arguments)
            .kill_on_drop(true)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that must succeed; its output.
    async fn run(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).output().await.unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed:\n{out}{err}"
        );
        out.into_owned()
    }

    /// Runs a command that must fail; its complaint.
    async fn fails(&self, arguments: &[&str]) -> String {
        let output = self.kubectl(arguments).output().await.unwrap();
        assert!(
            !output.status.success(),
            "kubectl {arguments:?} succeeded: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs a command with a manifest on its input.
    async fn feed(&self, arguments: &[&str], input: &str) -> String {
        let mut child = self
            .kubectl(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .await
            .unwrap();
        let output = child.wait_with_output().await.unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "kubectl {arguments:?} failed:\n{out}{err}"
        );
        out.into_owned()
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn get_prints_services_in_kubernetes_own_columns() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["create", "-f", "-"], WEB).await;
    let table = shell.run(&["get", "svc"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        words(lines[0]),
        [
            "NAME",
            "TYPE",
            "CLUSTER-IP",
            "EXTERNAL-IP",
            "PORT(S)",
            "AGE"
        ]
    );
    assert_eq!(
        words(lines[1])[..5],
        ["web", "LoadBalancer", "<none>", "<pending>", "80/TCP"]
    );
    let wide = shell
        .run(&["get", "svc", "-A", "-o", "wide", "-l", "tier=front"])
        .await;
    assert!(
        wide.contains("app=web") && wide.contains("default"),
        "{wide}"
    );
    let none = shell
        .run(&["get", "svc", "-l", "tier=back", "-o", "name"])
        .await;
    assert_eq!(none, "");
}

#[tokio::test]
async fn get_prints_yaml_and_json() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["create", "-f", "-"], WEB).await;
    let yaml = shell.run(&["get", "svc", "web", "-o", "yaml"]).await;
    assert!(
        yaml.contains("kind: Service") && yaml.contains("allocateLoadBalancerNodePorts: true"),
        "{yaml}"
    );
    let json = shell.run(&["get", "svc", "web", "-o", "json"]).await;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["spec"]["ports"][0]["targetPort"], 80);
}

#[tokio::test]
async fn several_kinds_are_listed_by_short_names() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["apply", "-f", "-"], WEB).await;
    shell.feed(&["apply", "-f", "-"], POOL).await;
    let both = shell.run(&["get", "svc,apool"]).await;
    assert!(
        both.contains("service/web") && both.contains("addresspool.portolan.dev/main"),
        "{both}"
    );
    let pool = shell.run(&["get", "apool"]).await;
    assert_eq!(
        words(pool.lines().next().unwrap()),
        ["NAME", "PRIORITY", "READY"]
    );
    for short in ["no", "ns", "ev", "crd", "lease", "endpointslices"] {
        shell.run(&["get", short]).await;
    }
}

#[tokio::test]
async fn apply_creates_then_configures_then_leaves_alone() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    assert_eq!(
        shell.feed(&["apply", "-f", "-"], WEB).await.trim(),
        "service/web created"
    );
    assert_eq!(
        shell.feed(&["apply", "-f", "-"], WEB).await.trim(),
        "service/web unchanged"
    );
    let changed = WEB.replace("port: 80", "port: 8080");
    assert_eq!(
        shell.feed(&["apply", "-f", "-"], &changed).await.trim(),
        "service/web configured"
    );
    let ports = shell
        .run(&["get", "svc", "web", "-o", "jsonpath={.spec.ports[*].port}"])
        .await;
    assert_eq!(ports, "8080");
    assert_eq!(
        shell.feed(&["apply", "-f", "-"], POOL).await.trim(),
        "addresspool.portolan.dev/main created"
    );
    let changed = POOL.replace("/24", "/25");
    assert_eq!(
        shell.feed(&["apply", "-f", "-"], &changed).await.trim(),
        "addresspool.portolan.dev/main configured"
    );
    shell
        .feed(
            &["apply", "--server-side", "-f", "-"],
            &WEB.replace("name: web", "name: other"),
        )
        .await;
}

#[tokio::test]
async fn describe_shows_a_service_and_its_events() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["apply", "-f", "-"], WEB).await;
    let uid = shell
        .run(&["get", "svc", "web", "-o", "jsonpath={.metadata.uid}"])
        .await;
    let event = format!(
        "apiVersion: events.k8s.io/v1\nkind: Event\nmetadata: {{name: web.1, namespace: default}}\neventTime: \"2026-01-02T03:04:05.000006Z\"\ntype: Warning\nreason: PoolExhausted\naction: Allocate\nnote: no address is free\nreportingController: portolan.dev/controller\nreportingInstance: one\nregarding: {{apiVersion: v1, kind: Service, name: web, namespace: default, uid: {uid}}}\n"
    );
    shell.feed(&["create", "-f", "-"], &event).await;
    let text = shell.run(&["describe", "svc", "web"]).await;
    for part in ["LoadBalancer", "PoolExhausted", "no address is free"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let events = shell.run(&["get", "events"]).await;
    assert!(
        events.contains("service/web") && events.contains("PoolExhausted"),
        "{events}"
    );
}

#[tokio::test]
async fn edit_changes_what_the_editor_changed() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["apply", "-f", "-"], WEB).await;
    shell.feed(&["apply", "-f", "-"], POOL).await;
    for (object, change) in [
        ("svc/web", "s/tier: front/tier: back/"),
        ("apool/main", "s/priority: 0/priority: 7/"),
    ] {
        let output = shell
            .kubectl(&["edit", object])
            .env("KUBE_EDITOR", format!("sed -i '{change}'"))
            .output()
            .await
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(
        shell
            .run(&[
                "get",
                "svc",
                "web",
                "-o",
                "jsonpath={.metadata.labels.tier}"
            ])
            .await,
        "back"
    );
    assert_eq!(
        shell
            .run(&["get", "apool", "main", "-o", "jsonpath={.spec.priority}"])
            .await,
        "7"
    );
}

#[tokio::test]
async fn expose_label_annotate_patch_and_delete_work() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["apply", "-f", "-"], WEB).await;
    shell
        .run(&[
            "expose", "service", "web", "--name", "again", "--port", "81", "--type", "NodePort",
        ])
        .await;
    shell
        .run(&["label", "svc", "again", "tier=back", "--overwrite"])
        .await;
    shell
        .run(&["annotate", "svc", "again", "portolan.dev/address-pool=main"])
        .await;
    shell
        .run(&[
            "patch",
            "svc",
            "again",
            "-p",
            r#"{"spec":{"ports":[{"port":81,"nodePort":30081}]}}"#,
        ])
        .await;
    let merge = r#"{"spec":{"externalTrafficPolicy":"Local"}}"#;
    shell
        .run(&["patch", "svc", "again", "--type", "merge", "-p", merge])
        .await;
    let table = shell.run(&["get", "svc", "again", "--no-headers"]).await;
    assert_eq!(
        words(&table)[..5],
        ["again", "NodePort", "<none>", "<none>", "81:30081/TCP"]
    );
    let yaml = shell.run(&["get", "svc", "again", "-o", "yaml"]).await;
    assert!(
        yaml.contains("portolan.dev/address-pool: main") && yaml.contains("tier: back"),
        "{yaml}"
    );
    assert!(
        shell
            .run(&["delete", "svc", "again"])
            .await
            .contains("deleted")
    );
    assert!(
        shell
            .fails(&["get", "svc", "again"])
            .await
            .contains("Error from server (NotFound): services \"again\" not found")
    );
}

#[tokio::test]
async fn a_refusal_is_printed_in_kubernetes_words() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["apply", "-f", "-"], WEB).await;
    let complaint = shell
        .fails(&[
            "patch",
            "svc",
            "web",
            "-p",
            r#"{"spec":{"loadBalancerClass":"example.com/b"}}"#,
        ])
        .await;
    assert!(
        complaint.contains("The Service \"web\" is invalid: spec.loadBalancerClass"),
        "{complaint}"
    );
}

#[tokio::test]
async fn get_watch_prints_changes_as_they_happen() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    shell.feed(&["apply", "-f", "-"], WEB).await;
    let mut child = shell
        .kubectl(&["get", "svc", "-w"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(30), lines.next_line())
            .await
            .unwrap()
            .unwrap()
    };
    assert!(next().await.unwrap().starts_with("NAME"));
    assert!(next().await.unwrap().starts_with("web"));
    shell
        .feed(
            &["apply", "-f", "-"],
            &WEB.replace("name: web,", "name: more,"),
        )
        .await;
    assert!(next().await.unwrap().starts_with("more"));
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_namespace_is_created_used_and_deleted() {
    let Some(shell) = Shell::start().await else {
        return;
    };
    // `kubectl create namespace` speaks protobuf, which devapi does not.
    let shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    shell.feed(&["create", "-f", "-"], shop).await;
    shell.feed(&["apply", "-n", "shop", "-f", "-"], WEB).await;
    assert!(
        shell
            .run(&["get", "svc", "-n", "shop"])
            .await
            .contains("web")
    );
    shell.run(&["delete", "namespace", "shop"]).await;
    assert!(
        shell
            .fails(&["get", "namespace", "shop"])
            .await
            .contains("NotFound")
    );
}
