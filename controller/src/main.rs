//! The `portolan` binary: reads the command line and the environment, installs what is global, runs.

use std::{
    fmt::Write as _,
    hash::BuildHasher as _,
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use controller::{
    core::{engine::NodePorts, pace::ServerRange},
    shell,
};
use tracing::info;
use tracing_subscriber::EnvFilter;

mod cli;

/// Portolan gives Kubernetes Services their numbers and their address.
#[derive(Parser)]
#[command(name = "portolan", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the controller until SIGTERM or SIGINT; a second signal ends it at once.
    Controller(ControllerArguments),
    /// Print the custom resource definitions: portolan crds | kubectl apply -f -
    Crds,
    /// Show the load balancers that Services would get and the steps to them; change nothing.
    Plan(cli::plan::PlanArguments),
    /// List load balancers of this cluster in AWS that no Service is for; delete them if told to.
    Orphans(cli::orphans::OrphansArguments),
    /// Give the speakers a new key to talk to one another by; they go on meanwhile.
    RotateSpeakerKey(cli::keys::RotateArguments),
    /// Show who has which nodePort, clusterIP and external address, and how full pools are.
    Numbers(cli::numbers::NumbersArguments),
}

#[derive(Args)]
struct ControllerArguments {
    /// Which kubeconfig; without it $KUBECONFIG, ~/.kube/config or the Pod's service account.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; without it the current one.
    #[arg(long)]
    context: Option<String>,
    /// Whether to lead by a Lease, so that of several replicas one writes; false for one process.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    leader_elect: bool,
    /// Where the Lease lies; without it the Pod's namespace or that of the context.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    lease_namespace: Option<String>,
    /// The Lease's name.
    #[arg(long, default_value = "portolan-controller", value_name = "NAME")]
    lease_name: String,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    admin_address: SocketAddr,
    /// The API server's --service-node-port-range, where it is not Kubernetes' default: no
    /// NodePortPool hands out a port outside it. Without this the first refusal tells.
    #[arg(long, value_name = "FIRST-LAST", value_parser = node_port_range)]
    node_port_range: Option<ServerRange>,
    /// So many Services a second at most have nodePorts changed that a NodePortPool does not allow.
    #[arg(long, default_value_t = 5, value_name = "SERVICES", value_parser = clap::value_parser!(u32).range(1..))]
    renumber_per_second: u32,
    /// Whether the free addresses of AddressPools with usage ClusterIP are kept from the API server's
    /// own picks, by IPAddress objects; from Kubernetes 1.34 on.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "true|false")]
    reserve_cluster_ips: bool,
    /// Which Secret, in the Lease's namespace, to make the speakers' key in, if there is none;
    /// without it no key is made.
    #[arg(long, value_name = "NAME")]
    speaker_keys: Option<String>,
    #[command(flatten)]
    webhook: cli::webhook::WebhookArguments,
    #[command(flatten)]
    aws: AwsArguments,
    /// How the log is written; what is logged is set by $RUST_LOG.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// What serves LoadBalancerClasses with spec.aws; without a cluster's name nothing does.
#[derive(Args)]
struct AwsArguments {
    #[command(flatten)]
    place: cli::Place,
    /// A load balancer that nothing has changed about is compared with AWS every so many seconds, one
    /// after the other.
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    aws_verify_seconds: u64,
    /// Of the instances in a target group at most so many in a hundred are taken away at once.
    #[arg(long, default_value_t = 50, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    aws_max_removed_percent: u8,
}

impl AwsArguments {
    #[cfg(feature = "aws")]
    fn provider(self) -> Result<Option<shell::Provider>> {
        let Some(connect) = self.place.connect() else {
            return Ok(None);
        };
        Ok(Some(shell::aws::provider(shell::aws::Settings {
            verify_interval: std::time::Duration::from_secs(self.aws_verify_seconds),
            removed_percent: self.aws_max_removed_percent,
            ..shell::aws::Settings::new(connect)
        })))
    }

    #[cfg(not(feature = "aws"))]
    fn provider(self) -> Result<Option<shell::Provider>> {
        anyhow::ensure!(
            self.place.cluster_name.is_none(),
            "this portolan was built without AWS: build it with --features aws, or leave out \
             --cluster-name"
        );
        Ok(None)
    }
}

fn node_port_range(text: &str) -> Result<ServerRange, String> {
    ServerRange::parse(text)
        .ok_or_else(|| "write the first and the last port, for example 30000-32767".to_owned())
}

/// kube's client says every failed connection as an error; the watches say it once and count it.
const DEFAULT_FILTER: &str = "info,kube_client::client::builder=off";

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object per line.
    Json,
}

fn main() -> ExitCode {
    // Before anything can open a TLS connection: with two providers in the build rustls panics
    // rather than choose. The error only says that one is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let outcome = match Arguments::parse().command {
        Command::Controller(arguments) => controller(arguments).map(|()| ExitCode::SUCCESS),
        Command::Crds => print_crds().map(|()| ExitCode::SUCCESS),
        Command::Plan(arguments) => cli::plan::plan(arguments),
        Command::Orphans(arguments) => cli::orphans::orphans(arguments),
        Command::RotateSpeakerKey(arguments) => cli::keys::rotate(arguments),
        Command::Numbers(arguments) => cli::numbers::numbers(arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // To stderr and not to the log: the log may not be set up yet.
            let mut chain = String::new();
            for cause in error.chain().skip(1) {
                let _infallible = write!(chain, ": {cause}");
            }
            let _unwritable = writeln!(std::io::stderr(), "portolan: {error}{chain}");
            ExitCode::FAILURE
        }
    }
}

fn print_crds() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for (_file, text) in crds::yaml().context("the definitions cannot be rendered")? {
        writeln!(out, "---\n{}", text.trim_end())?;
    }
    Ok(())
}

fn controller(arguments: ControllerArguments) -> Result<()> {
    log_to_stderr(arguments.log_format);
    // One thread: the engine is serial, the rest waits for the network, and each further thread
    // costs an arena of memory.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(arguments))
}

fn log_to_stderr(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

async fn run(arguments: ControllerArguments) -> Result<()> {
    let config = daemon::config(arguments.kubeconfig, arguments.context).await?;
    let seed = std::hash::RandomState::new().hash_one(std::process::id());
    let identity = identity(seed);
    let namespace = arguments
        .lease_namespace
        .unwrap_or_else(|| config.default_namespace.clone());
    let speaker_keys = arguments.speaker_keys.map(|name| shell::SecretName {
        namespace: namespace.clone(),
        name,
    });
    let webhook = arguments.webhook.webhook(&namespace);
    let election = arguments.leader_elect.then_some(shell::Election {
        namespace,
        name: arguments.lease_name,
    });
    info!(
        version = env!("CARGO_PKG_VERSION"),
        identity,
        server = %config.cluster_url,
        leader_elect = election.is_some(),
        "starting"
    );
    let client = shell::client(config).context("cannot make a client for the API server")?;
    let options = shell::Options {
        seed,
        election,
        admin: Some(arguments.admin_address),
        node_ports: NodePorts {
            range: arguments.node_port_range,
            renumber_per_second: arguments.renumber_per_second,
        },
        reserve_cluster_ips: arguments.reserve_cluster_ips,
        aws: arguments.aws.provider()?,
        speaker_keys,
        webhook,
        ..shell::Options::single(&identity)
    };

    daemon::until_signalled(async |shutdown| {
        let running = shell::run(client, options, async {
            // A dropped sender ends the run just as well.
            let _dropped = shutdown.await;
        });
        running.await.context("the controller failed")
    })
    .await
}

/// Unique among replicas and restarts: a process must not take the lease of its predecessor for its
/// own.
fn identity(seed: u64) -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .filter(|host| !host.is_empty())
        .unwrap_or_else(|| "portolan".to_owned());
    format!("{host}_{seed:016x}")
}
