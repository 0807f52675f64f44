//! `portolan numbers` and its audit: the built binary against the embedded API server.
//! `PORTOLAN_BLESS=1` writes what it prints into the documentation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a broken assumption must end the test"
)]

use std::{
    collections::BTreeSet,
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crds::{AddressPool, AllocationBlock, NodePortPool};
use k8s_openapi::{
    api::core::v1::{Namespace, Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

struct Lab {
    client: Client,
    folder: tempfile::TempDir,
    _front: devapi::Server,
}

async fn create<K>(api: Api<K>, object: Value) -> K
where
    K: serde::de::DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
{
    let object = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}

impl Lab {
    /// A cluster without Portolan, with namespace `shop`.
    async fn bare() -> Self {
        let server = devapi::DevApi::new(devapi::Options::default());
        let (address, front) = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        fs::write(kubeconfig, server.kubeconfig(address)).unwrap();
        let client = server.client();
        let shop = json!({"metadata": {"name": "shop"}});
        create::<Namespace>(Api::all(client.clone()), shop).await;
        Self {
            client,
            folder,
            _front: front,
        }
    }

    /// With everything that the documentation shows.
    async fn documented() -> Self {
        let lab = Self::bare().await;
        lab.definitions().await;
        lab.pools().await;
        let web = json!({
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.10",
            "healthCheckNodePort": 30101, "ports": [{"port": 80, "nodePort": 30100}],
        });
        let web = lab.service("web", web).await;
        lab.show("web", "203.0.113.1").await;
        let dns = json!({
            "type": "NodePort", "clusterIP": "10.96.0.11", "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 31544},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "nodePort": 31544},
            ],
        });
        lab.service("dns", dns).await;
        let new = json!({
            "type": "NodePort", "clusterIP": "10.96.0.12",
            "ports": [{"port": 80, "nodePort": 30102}],
        });
        lab.service("new", new).await;
        let ports = format!(
            "30100 NodePort shop/web {web} 1\n\
             30101 HealthCheckNodePort shop/web {web} 1\n\
             30104 Retained shop/old 4070908800\n"
        );
        lab.block("port-29952", &ports).await;
        let addresses = format!(
            "203.0.113.1 LoadBalancer shop/web {web} 1\n\
             203.0.113.2 LoadBalancer shop/gone u 1\n"
        );
        lab.block("v4-203-0-113-0", &addresses).await;
        lab
    }

    async fn definitions(&self) {
        for crd in crds::all() {
            create::<CustomResourceDefinition>(Api::all(self.client.clone()), json!(crd)).await;
        }
    }

    async fn pools(&self) {
        let web = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "NodePortPool", "metadata": {"name": "web"},
            "spec": {"ports": ["30100-30199"], "exclude": ["30103"], "retainFor": "24h"},
        });
        create::<NodePortPool>(Api::all(self.client.clone()), web).await;
        let external = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "AddressPool", "metadata": {"name": "external"},
            "spec": {"addresses": ["203.0.113.0/28"]},
        });
        create::<AddressPool>(Api::all(self.client.clone()), external).await;
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), "shop")
    }

    /// Makes it and returns its uid.
    async fn service(&self, name: &str, spec: Value) -> String {
        let service = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
        let made = create(self.services(), service).await;
        made.metadata.uid.unwrap()
    }

    async fn show(&self, name: &str, address: &str) {
        let status =
            json!({"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}});
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(status));
        let done = self
            .services()
            .patch_status(name, &parameters, &patch)
            .await;
        done.unwrap();
    }

    async fn block(&self, name: &str, claims: &str) {
        let block = json!({
            "apiVersion": "portolan.dev/v1alpha1", "kind": "AllocationBlock", "metadata": {"name": name},
            "spec": {"formatVersion": 2, "sequence": 1, "writer": "w", "claims": claims},
        });
        create::<AllocationBlock>(Api::all(self.client.clone()), block).await;
    }

    /// Runs `portolan LINE`.
    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command
            .env("KUBECONFIG", self.folder.path().join("kubeconfig"))
            .args(line.split_whitespace());
        tokio::task::block_in_place(|| command.output().unwrap())
    }

    /// What it prints; with this exit code and nothing on stderr.
    fn printed(&self, line: &str, code: i32) -> String {
        let done = self.run(line);
        assert_eq!(text(&done.stderr), "", "{line}");
        assert_eq!(
            done.status.code(),
            Some(code),
            "{line}: {}",
            text(&done.stdout)
        );
        text(&done.stdout)
    }

    fn json(&self, line: &str, code: i32) -> Value {
        let printed = self.printed(&format!("{line} --output json"), code);
        serde_json::from_str(&printed).unwrap()
    }

    /// A proc file system with these settings and a listener on TCP 30100 of nginx, pid 4711.
    fn node(&self, range: &str, reserved: &str) -> String {
        let proc = self.folder.path().join("proc");
        let put = |file: &str, text: &str| {
            let path = proc.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        };
        put("sys/net/ipv4/ip_local_port_range", range);
        put("sys/net/ipv4/ip_local_reserved_ports", reserved);
        put(
            "net/tcp",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 00000000:7594 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 99 1 0",
        );
        put("4711/comm", "nginx");
        let files = proc.join("4711/fd");
        fs::create_dir_all(&files).unwrap();
        let link = files.join("5");
        if !link.is_symlink() {
            std::os::unix::fs::symlink("socket:[99]", link).unwrap();
        }
        proc.to_str().unwrap().to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/numbers.md")
}

/// The text block behind this sentence is what was printed.
fn documented(behind: &str, printed: &str) {
    let whole = fs::read_to_string(page()).unwrap();
    let start = format!("{behind}\n\n```text\n");
    let from = whole.find(&start).expect(behind) + start.len();
    let to = from + whole[from..].find("```\n").unwrap();
    if std::env::var_os("PORTOLAN_BLESS").is_some() {
        fs::write(
            page(),
            format!("{}{printed}{}", &whole[..from], &whole[to..]),
        )
        .unwrap();
        return;
    }
    assert!(
        whole[from..to] == *printed,
        "docs/numbers.md differs; PORTOLAN_BLESS=1 writes it. Printed:\n{printed}"
    );
}

fn rows(report: &Value) -> Vec<String> {
    let rows = report["numbers"].as_array().unwrap().iter();
    let word = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    rows.map(|row| {
        format!(
            "{} {} {}",
            word(row, "number"),
            word(row, "state"),
            word(row, "service")
        )
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_commands_print_what_is_documented() {
    let lab = Lab::documented().await;
    // runs: portolan numbers
    documented(
        "The first prints, for instance:",
        &lab.printed("numbers", 0),
    );

    // runs: portolan numbers --port 31544
    let one = lab.printed("numbers --port 31544", 0);
    assert!(one.contains("shop/dns"), "{one}");
    assert_eq!(one.lines().count(), 2, "{one}");

    // runs: portolan numbers --ip 203.0.113.1
    let one = lab.printed("numbers --ip 203.0.113.1", 0);
    assert!(
        one.contains("shop/web") && one.contains("external"),
        "{one}"
    );
    assert!(!one.contains("shop/gone"), "{one}");

    // runs: portolan numbers --namespace shop --kind node-port
    let report = lab.json("numbers --namespace shop --kind node-port", 0);
    let expected = [
        "30100 Held web",
        "30101 Held web",
        "30102 Unclaimed new",
        "30104 Retained old",
        "31544 Unmanaged dns",
    ];
    assert_eq!(rows(&report), expected);

    // runs: portolan numbers --output json
    let report = lab.json("numbers", 0);
    assert_eq!(report["numbers"].as_array().unwrap().len(), 10);
    assert_eq!(report["numbers"][4]["protocols"], json!(["TCP", "UDP"]));
    assert_eq!(report["findings"][0]["kind"], "LeakedClaim");
    assert_eq!(report["findings"][0]["service"], "gone");

    // runs: portolan numbers --free node-port --pool web --count 3
    let free = lab.json("numbers --free node-port --pool web --count 3", 0);
    let numbers: Vec<&str> = (free["free"].as_array().unwrap().iter())
        .map(|free| free["number"].as_str().unwrap())
        .collect();
    assert_eq!(numbers, ["30105", "30106", "30107"]);

    // runs: portolan numbers audit
    let node = lab.node("30150\t60999", "8080");
    let printed = lab.printed(&format!("numbers audit --proc {node}"), 1);
    let sentence = "compares nodePorts and NodePortPools with the ports that the node where it runs \
                    uses itself, and exits with 1 when they collide:";
    documented(sentence, &printed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_the_json_is_documented() {
    let lab = Lab::documented().await;
    let node = lab.node("30150\t60999", "8080");
    let mut fields = BTreeSet::new();
    let audit = format!("numbers audit --proc {node}");
    for (line, code) in [("numbers", 0), ("numbers --free external", 0), (&*audit, 1)] {
        names(&lab.json(line, code), &mut fields);
    }
    let page = fs::read_to_string(page()).unwrap();
    let missing = fields.iter().filter(|f| !page.contains(&format!("`{f}`")));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                into.insert(name.clone());
                names(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_succeeds_where_the_node_keeps_out_of_the_way() {
    let lab = Lab::bare().await;
    lab.definitions().await;
    lab.pools().await;
    let node = lab.node("32768\t60999", "30100-30199");
    fs::write(Path::new(&node).join("net/tcp"), "").unwrap();
    let line = format!("numbers audit --proc {node}");
    let printed = lab.printed(&line, 0);
    assert!(
        printed.ends_with("No collision with 0 nodePorts and 1 NodePortPool.\n"),
        "{printed}"
    );
    assert_eq!(lab.json(&line, 0)["collisions"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_is_found_and_named_on_the_kernel_that_runs_this() {
    let lab = Lab::bare().await;
    let bound = (32000..32768).find_map(|port| {
        let tcp = TcpListener::bind(("127.0.0.1", port)).ok()?;
        let udp = UdpSocket::bind(("127.0.0.1", port)).ok()?;
        Some((port, tcp, udp))
    });
    let (port, _tcp, _udp) = bound.unwrap();
    let spec = json!({
        "type": "NodePort", "clusterIP": "10.96.0.9", "ports": [
            {"name": "t", "port": 1, "protocol": "TCP", "nodePort": port},
            {"name": "u", "port": 1, "protocol": "UDP", "nodePort": port},
        ],
    });
    lab.service("web", spec).await;
    let report = lab.json("numbers audit", 1);
    let collisions = report["collisions"].as_array().unwrap().iter();
    let listeners: Vec<&Value> = collisions.filter(|c| c["what"] == "Listener").collect();
    let protocols: Vec<&Value> = listeners.iter().map(|c| &c["protocols"][0]).collect();
    assert_eq!(protocols, ["TCP", "UDP"], "{report:#}");
    let who = format!("(pid {}) listens on 127.0.0.1:{port}; ", std::process::id());
    for listener in listeners {
        let why = listener["why"].as_str().unwrap();
        assert!(why.contains(&who), "{who}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_are_shown_without_portolan_and_despite_what_cannot_be_read() {
    let lab = Lab::bare().await;
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 31544}]});
    lab.service("web", spec).await;
    let report = lab.json("numbers --port 31544", 0);
    assert_eq!(rows(&report), ["31544 Unmanaged web"]);
    let warnings = report["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    let printed = lab.printed("numbers --free node-port", 1);
    assert!(
        printed.contains("Warning: there is no NodePortPool"),
        "{printed}"
    );

    lab.definitions().await;
    lab.block("port-30976", "").await;
    lab.block("of-a-stranger", "").await;
    let printed = lab.printed("numbers", 0);
    assert!(
        printed.contains("Warning: AllocationBlock of-a-stranger: the name"),
        "{printed}"
    );
    assert!(printed.contains("shop/web"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_said_with_what_to_change() {
    let lab = Lab::bare().await;
    let said = |line: &str| {
        let done = lab.run(line);
        assert!(!done.status.success(), "{line}");
        assert_eq!(text(&done.stdout), "", "{line}");
        text(&done.stderr)
    };
    for (line, says) in [
        ("numbers --port 0", "--port"),
        ("numbers --port 70000", "--port"),
        ("numbers --ip 203.0.113", "--ip"),
        ("numbers --pool web", "--free"),
        ("numbers --free external --port 1", "--port"),
        ("numbers --kind addresses", "node-port"),
        (
            "numbers audit --proc /nowhere",
            "cannot read /nowhere/sys/net/ipv4/ip_local_port_range",
        ),
        (
            "numbers --kubeconfig /nowhere",
            "cannot read --kubeconfig /nowhere",
        ),
    ] {
        let said = said(line);
        assert!(said.contains(says), "{line}: {said}");
    }
}
