//! etcd and kube-apiserver, and if asked for the controller manager, on a loopback address of
//! their own or in a network of the lab. Ready within seconds; ended, with every file, when the
//! value is dropped.

use std::{
    fmt::Write as _,
    fs,
    io::Read as _,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Client,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};

use k8s::Binary;

use crate::{
    audit::{self, AuditLine},
    certificates,
    keeper::Keeper,
    lab::{Sandbox, net, sandbox},
};

/// Where clusterIPs come from, IPv4 first: a Service that does not say gets IPv4 only.
const SERVICE_CIDRS: &str = "10.96.0.0/16,fd00:10:96::/112";
/// The clusterIP of the Service `kubernetes`.
const KUBERNETES: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
/// On two cores with everything else busy; 5 s when they are idle.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often we ask whether it is ready.
const PAUSE: Duration = Duration::from_millis(50);

/// One line for each request that has been answered, but for probes and the noise of `/api`.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ['/livez*', '/readyz*', '/healthz*', '/metrics']
- level: Metadata
";

/// What runs besides etcd and kube-apiserver.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Namespaces are emptied when deleted, garbage is collected, `default` ServiceAccounts appear.
    pub controller_manager: bool,
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    keeper: Keeper,
    binary: Binary,
    /// Where the API server listens.
    address: IpAddr,
    /// Where we reach it: the same, or on loopback what is forwarded into the lab.
    reached: IpAddr,
    /// `--service-cluster-ip-range`.
    service_cidrs: String,
    /// The namespaces in which the parts run; none: ours.
    sandbox: Option<Sandbox>,
    /// The admin's bearer token.
    token: String,
}

/// Who a part of the cluster is: the user and groups that the API server's own roles are bound to.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The kubeconfig is `NAME.kubeconfig`.
    pub(crate) name: String,
    pub(crate) user: String,
    pub(crate) group: &'static str,
}

impl ControlPlane {
    /// etcd and kube-apiserver.
    ///
    /// # Errors
    /// [`NotAvailable`](crate::NotAvailable) when there is no binary and no Go to build it;
    /// otherwise when a part ends or is not ready in time, with the end of its log.
    pub async fn start() -> Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// With more parts.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(options: Options) -> Result<Self> {
        Self::start_on(SERVICE_CIDRS, options).await
    }

    /// With these for `--service-cluster-ip-range`, the primary family first.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on(service_cidrs: &str, options: Options) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(Binary::build).await??;
        let address = loopback();
        let mut plane = Self {
            keeper: Keeper::new()?,
            binary,
            address,
            reached: address,
            service_cidrs: service_cidrs.to_owned(),
            sandbox: None,
            token: word()?,
        };
        plane.launch(&[]).await?;
        if options.controller_manager {
            plane.start_controller_manager("kubeconfig")?;
        }
        Ok(plane)
    }

    /// In the network `plane` of a lab, which is reached through a forwarder on loopback, with a
    /// kubeconfig for each of these.
    pub(crate) async fn start_in(
        sandbox: Sandbox,
        keeper: Keeper,
        identities: &[Identity],
    ) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(Binary::build).await??;
        let mut plane = Self {
            keeper,
            binary,
            address: net::PLANE.into(),
            reached: loopback(),
            service_cidrs: SERVICE_CIDRS.to_owned(),
            sandbox: Some(sandbox),
            token: word()?,
        };
        let forwarder = plane.forwarder();
        if let Some(forwarder) = forwarder {
            plane.keeper.start("forwarder", forwarder)?;
        }
        plane.launch(identities).await?;
        Ok(plane)
    }

    /// Writes every file, starts etcd and the API server, waits until that is ready.
    async fn launch(&mut self, identities: &[Identity]) -> Result<()> {
        self.write_files(identities)?;
        let etcd = self.etcd();
        self.keeper.start("etcd", etcd)?;
        let api = self.api_server();
        self.keeper.start("kube-apiserver", api)?;
        self.ready().await
    }

    pub(crate) fn start_controller_manager(&mut self, kubeconfig: &str) -> Result<()> {
        let manager = self.controller_manager(kubeconfig);
        self.keeper.start("kube-controller-manager", manager)
    }

    pub(crate) fn start_scheduler(&mut self, kubeconfig: &str) -> Result<()> {
        let mut scheduler = self.part("kube-scheduler");
        scheduler
            .args(["--leader-elect=false", "--bind-address", "127.0.0.1"])
            .arg("--kubeconfig")
            .arg(self.folder().join(kubeconfig));
        self.keeper.start("kube-scheduler", scheduler)
    }

    /// What is started here ends with the control plane.
    pub(crate) fn keeper(&mut self) -> &mut Keeper {
        &mut self.keeper
    }

    /// The programs that it consists of.
    pub(crate) fn binary(&self) -> &Binary {
        &self.binary
    }

    /// One part, in the network where parts run.
    fn part(&self, name: &str) -> Command {
        match &self.sandbox {
            None => self.binary.part(name),
            Some(sandbox) => {
                let program = self.binary.path();
                let mut command = sandbox.command("plane", &program.to_string_lossy());
                command.arg(name);
                command
            }
        }
    }

    /// Brings connections from our loopback into the lab, each by a process of its own.
    fn forwarder(&self) -> Option<Command> {
        let network = self.sandbox.as_ref()?.network("plane");
        let mut socat = Command::new("socat");
        socat
            .arg(format!(
                "TCP-LISTEN:6443,bind={},reuseaddr,fork",
                self.reached
            ))
            .arg(format!(
                "EXEC:nsenter --net={} socat STDIO TCP\\:{}\\:6443",
                network.display(),
                self.address
            ));
        Some(socat)
    }

    /// The admin's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    /// How to reach it with this bearer token.
    ///
    /// # Errors
    /// When its certificate cannot be read.
    pub async fn config_as(&self, token: &str) -> Result<kube::Config> {
        let file: Kubeconfig = serde_json::from_value(self.kubeconfig_for(token, self.reached))?;
        let mut config =
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.proxy_url = None; // the environment's proxy does not know our loopback address
        Ok(config)
    }

    /// How the admin reaches it.
    ///
    /// # Errors
    /// As [`config_as`](Self::config_as).
    pub async fn config(&self) -> Result<kube::Config> {
        self.config_as(&self.token).await
    }

    /// A client with all rights.
    ///
    /// # Errors
    /// As [`config_as`](Self::config_as).
    pub async fn client(&self) -> Result<Client> {
        self.client_as(&self.token).await
    }

    /// A client with the rights of whoever has this token.
    ///
    /// # Errors
    /// As [`config_as`](Self::config_as).
    pub async fn client_as(&self, token: &str) -> Result<Client> {
        Ok(Client::try_from(self.config_as(token).await?)?)
    }

    /// A token of an existing ServiceAccount, valid for an hour.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(3600),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let request = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await?;
        let status = request.status.context("a token request without status")?;
        Ok(status.token)
    }

    /// The real kubectl as admin; add arguments.
    #[must_use]
    pub fn kubectl(&self) -> Command {
        let mut command = self.binary.part("kubectl");
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command
            .arg("--cache-dir")
            .arg(self.folder().join("kubectl"));
        command
    }

    /// Every request answered until now. A line may come a moment after the answer.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditLine>> {
        let log = fs::read_to_string(self.folder().join("audit.log"))?;
        Ok(audit::parse(&log)?)
    }

    /// Kills the API server without warning and starts it again on the same data.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn restart_api_server(&mut self) -> Result<()> {
        self.keeper.stop("kube-apiserver")?;
        let api = self.api_server();
        self.keeper.start("kube-apiserver", api)?;
        self.ready().await
    }

    /// What [`restart_api_server`](Self::restart_api_server) gives for `--service-cluster-ip-range`.
    pub fn set_service_cidrs(&mut self, service_cidrs: &str) {
        self.service_cidrs = service_cidrs.to_owned();
    }

    /// Kills the API server without warning.
    pub(crate) fn stop_api_server(&mut self) -> Result<()> {
        self.keeper.stop("kube-apiserver")
    }

    /// Forgets every older version of every object, so that no watch can go on from one.
    ///
    /// # Errors
    /// When etcd does not answer as expected.
    pub async fn compact(&self) -> Result<()> {
        let etcd = self.url(2379);
        let found = post(&etcd, "/v3/kv/range", r#"{"key": "AA=="}"#).await?;
        let revision = found
            .pointer("/header/revision")
            .and_then(serde_json::Value::as_str)
            .with_context(|| format!("no revision in {found}"))?;
        let compact = format!(r#"{{"revision": "{revision}", "physical": true}}"#);
        let done = post(&etcd, "/v3/kv/compaction", &compact).await?;
        ensure!(done.get("header").is_some(), "not compacted: {done}");
        Ok(())
    }

    /// Writes a Service into etcd, past everything that the API server checks.
    ///
    /// # Errors
    /// When it has no name or namespace, or etcd does not answer as expected.
    pub async fn smuggle(&self, service: &serde_json::Value) -> Result<()> {
        let part = |field: &str| {
            let text = service.pointer(field).and_then(serde_json::Value::as_str);
            text.with_context(|| format!("no {field} in {service}"))
        };
        let (namespace, name) = (part("/metadata/namespace")?, part("/metadata/name")?);
        let put = format!(
            r#"{{"key": "{}", "value": "{}"}}"#,
            BASE64.encode(format!("/registry/services/specs/{namespace}/{name}")),
            BASE64.encode(service.to_string())
        );
        let done = post(&self.url(2379), "/v3/kv/put", &put).await?;
        ensure!(done.get("header").is_some(), "not written: {done}");
        Ok(())
    }

    /// A kubeconfig file for whoever has this token, in the folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_file(&self, name: &str, token: &str) -> Result<PathBuf> {
        let path = self.folder().join(format!("{name}.kubeconfig"));
        fs::write(&path, self.kubeconfig_for(token, self.reached).to_string())?;
        Ok(path)
    }

    /// What this part has printed.
    ///
    /// # Errors
    /// When it never ran.
    pub fn log(&self, part: &str) -> Result<String> {
        Ok(fs::read_to_string(
            self.folder().join(format!("{part}.log")),
        )?)
    }

    /// The end of what it has printed.
    pub(crate) fn last_words(&self, part: &str) -> Result<String> {
        Ok(tail(&self.log(part)?))
    }

    /// The process of this part, to measure or stop it.
    #[must_use]
    pub fn pid(&self, part: &str) -> Option<u32> {
        let pid = self.keeper.pid(part)?;
        match self.sandbox {
            None => Some(pid),
            Some(_) => sandbox::child_of(pid).ok(), // the first only entered the lab
        }
    }

    /// The folder that holds everything and goes away.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.keeper.folder()
    }

    fn write_files(&self, identities: &[Identity]) -> Result<()> {
        // Pods reach the API server by the first address of its Service CIDR.
        certificates::write(self.folder(), &[self.address, self.reached, KUBERNETES])?;
        let write = |name: &str, text: &str| fs::write(self.folder().join(name), text);
        write("audit-policy.yaml", AUDIT_POLICY)?;
        let mut tokens = format!("{},admin,admin,system:masters\n", self.token);
        for Identity { name, user, group } in identities {
            let token = word()?;
            writeln!(tokens, "{token},{user},{user},{group}")?;
            let kubeconfig = self.kubeconfig_for(&token, self.address);
            write(&format!("{name}.kubeconfig"), &kubeconfig.to_string())?;
        }
        write("tokens.csv", &tokens)?;
        let admin = self.kubeconfig_for(&self.token, self.reached);
        write("kubeconfig", &admin.to_string())?;
        Ok(())
    }

    /// JSON, which is YAML too.
    fn kubeconfig_for(&self, token: &str, server: IpAddr) -> serde_json::Value {
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "portolan",
            "contexts": [{ "name": "portolan", "context": { "cluster": "portolan", "user": "user" } }],
            "clusters": [{ "name": "portolan", "cluster": {
                "server": format!("https://{server}:6443"),
                "certificate-authority": self.folder().join(certificates::CA),
            }}],
            "users": [{ "name": "user", "user": { "token": token } }],
        })
    }

    fn etcd(&self) -> Command {
        let (clients, peers) = (self.url(2379), self.url(2380));
        let mut etcd = self.part("etcd");
        etcd.arg("--unsafe-no-fsync") // it need not survive a power cut
            .args(["--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.folder().join("etcd"))
            .args(["--listen-client-urls", &clients])
            .args(["--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers])
            .args(["--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")]);
        etcd
    }

    fn api_server(&self) -> Command {
        let address = self.address.to_string();
        let mut api = self.part("kube-apiserver");
        if self.sandbox.is_none() {
            // Endpoints of loopback are not allowed; nothing here looks for `kubernetes`.
            api.args(["--endpoint-reconciler-type", "none"]);
        }
        api.args(["--etcd-servers", &self.url(2379)])
            .args(["--bind-address", &address, "--advertise-address", &address])
            .args(["--secure-port", "6443"])
            .args(["--service-cluster-ip-range", &self.service_cidrs])
            .args(["--authorization-mode", "Node,RBAC"])
            .args(["--enable-admission-plugins", "NodeRestriction"])
            .args(["--service-account-issuer", "https://kubernetes.default.svc"])
            .args(["--audit-log-mode", "blocking"]) // no line is lost, none comes late
            .args(["--kubelet-preferred-address-types", "InternalIP"]);
        for (flag, file) in [
            ("--cert-dir", ""),
            ("--tls-cert-file", certificates::CERTIFICATE),
            ("--tls-private-key-file", certificates::KEY),
            ("--kubelet-client-certificate", certificates::CLIENT),
            ("--kubelet-client-key", certificates::CLIENT_KEY),
            (
                "--service-account-key-file",
                certificates::SERVICE_ACCOUNT_PUBLIC_KEY,
            ),
            (
                "--service-account-signing-key-file",
                certificates::SERVICE_ACCOUNT_KEY,
            ),
            ("--token-auth-file", "tokens.csv"),
            ("--audit-policy-file", "audit-policy.yaml"),
            ("--audit-log-path", "audit.log"),
        ] {
            api.arg(flag).arg(self.folder().join(file));
        }
        api
    }

    fn controller_manager(&self, kubeconfig: &str) -> Command {
        let mut manager = self.part("kube-controller-manager");
        manager
            .args(["--use-service-account-credentials", "--leader-elect=false"])
            .args(["--bind-address", &self.address.to_string()])
            // A node that dies is noticed while a test waits for it.
            .args(["--node-monitor-grace-period", "10s"]);
        for (flag, file) in [
            ("--kubeconfig", kubeconfig),
            ("--cert-dir", ""),
            ("--root-ca-file", certificates::CA),
            (
                "--service-account-private-key-file",
                certificates::SERVICE_ACCOUNT_KEY,
            ),
        ] {
            manager.arg(flag).arg(self.folder().join(file));
        }
        manager
    }

    /// Waits until the API server says that all its start hooks have run.
    async fn ready(&mut self) -> Result<()> {
        let client = self.client().await?;
        let start = Instant::now();
        loop {
            let request = http_get("/readyz")?;
            let answer = tokio::time::timeout(PATIENCE, client.request_text(request)).await?;
            let Err(error) = answer else { return Ok(()) };
            if let Some(name) = self.keeper.ended().map(str::to_owned) {
                bail!("{name} ended:\n{}", tail(&self.log(&name)?));
            }
            if start.elapsed() > PATIENCE {
                let log = tail(&self.log("kube-apiserver")?);
                return Err(error).with_context(|| format!("not ready in {PATIENCE:?}:\n{log}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// etcd's: nobody but the API server may reach it.
    fn url(&self, port: u16) -> String {
        let address = match self.sandbox {
            None => self.address,
            Some(_) => Ipv4Addr::LOCALHOST.into(),
        };
        format!("http://{address}:{port}")
    }
}

/// A loopback address that nobody else uses, so that every control plane has the usual ports and
/// none loses the race for a free one: all of 127.0.0.0/8 is this machine (RFC 1122 3.2.1.3).
fn loopback() -> IpAddr {
    let byte = || fastrand::u8(1..=254);
    IpAddr::V4(Ipv4Addr::new(127, byte(), byte(), byte()))
}

/// 128 bits that no other user of this machine can guess.
fn word() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// etcd's JSON gateway.
async fn post(server: &str, path: &str, body: &str) -> Result<serde_json::Value> {
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--noproxy", "*", "--data", body])
        .arg(format!("{server}{path}"))
        .output()
        .await
        .context("cannot start curl")?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

/// The end of a log: what went wrong is there.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(15);
    lines.get(from..).unwrap_or_default().join("\n")
}
