//! The `portolan-speaker` binary: reads the command line and the environment, installs what is global,
//! runs.

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use kube::config::{KubeConfigOptions, Kubeconfig};
use speaker_core::Settings;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

mod admin;
mod client;
mod clock;
mod drive;
mod groups;
mod interfaces;
mod keys;
mod metrics;
mod peers;
mod run;
mod status;
mod taps;
mod watch;

/// Answers by ARP and NDP for the addresses that this node owns, until SIGTERM or SIGINT: then it hands
/// over to its peers; a second signal ends it at once.
#[derive(Parser)]
#[command(name = "portolan-speaker", version, about)]
struct Arguments {
    /// This node's name.
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    node_name: String,
    /// The folder of keys that all speakers share.
    #[arg(
        long,
        default_value = "/etc/portolan/speaker-keys",
        value_name = "FOLDER"
    )]
    keys: PathBuf,
    /// UDP port at which every speaker hears its peers; the same on all nodes.
    #[arg(long, default_value_t = 7947, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "127.0.0.1:7480", value_name = "IP:PORT")]
    admin_address: SocketAddr,
    /// How long a node that returns must live before it takes addresses from others.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time)]
    rejoin_delay: Duration,
    /// How often a peer is asked whether it lives; how fast a dead one is noticed depends on it.
    #[arg(long, default_value = "150ms", value_name = "TIME", value_parser = time)]
    probe_interval: Duration,
    /// How long a new owner goes on announcing an address often.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = time)]
    announce_burst: Duration,
    /// How often an address is announced after that.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = time)]
    announce_repeat: Duration,
    /// Which kubeconfig; without it $KUBECONFIG, ~/.kube/config or the Pod's service account.
    #[arg(long, value_name = "PATH")]
    kubeconfig: Option<PathBuf>,
    /// Which context of the kubeconfig; without it the current one.
    #[arg(long)]
    context: Option<String>,
    /// How the log is written; what is logged is set by $RUST_LOG.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// kube's client says every failed connection as an error; the watches say it once.
const DEFAULT_FILTER: &str = "info,kube_client::client::builder=off";

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object per line.
    Json,
}

fn time(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "a time like 500ms, 30s or 2m is needed".to_owned())?;
    Duration::try_from(span).map_err(|_| "a time is not negative".to_owned())
}

fn main() -> ExitCode {
    // Before anything can open a TLS connection: with two providers in the build rustls panics
    // rather than choose. The error only says that one is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let arguments = Arguments::parse();
    log_to_stderr(arguments.log_format);
    // One thread, since each further one costs an arena of memory; the core has its own.
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(arguments)));
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    let mut chain = String::new();
    for cause in error.chain().skip(1) {
        let _infallible = write!(chain, ": {cause}");
    }
    let _unwritable = writeln!(std::io::stderr(), "portolan-speaker: {error}{chain}");
    ExitCode::FAILURE
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

fn settings(arguments: &Arguments) -> Result<Settings> {
    let mut seed = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut seed)
        .map_err(|_| anyhow::anyhow!("the operating system gives no random numbers"))?;
    let boot = u64::try_from(clock::since_1970().as_nanos()).unwrap_or(u64::MAX);
    let mut settings = Settings::new(arguments.node_name.as_str().into(), boot, seed);
    settings.port = arguments.port;
    settings.rejoin_delay = arguments.rejoin_delay;
    settings.probe_period = arguments.probe_interval;
    settings.wire.burst = arguments.announce_burst;
    settings.wire.repeat = arguments.announce_repeat;
    Ok(settings)
}

async fn run(arguments: Arguments) -> Result<()> {
    let settings = settings(&arguments)?;
    let config = config(arguments.kubeconfig, arguments.context).await?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %settings.node,
        port = settings.port,
        server = %config.cluster_url,
        "starting"
    );
    let client = client::client(config).context("cannot make a client for the API server")?;
    let options = run::Options {
        settings,
        keys: arguments.keys,
        admin: arguments.admin_address,
    };

    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let (first, shutdown) = tokio::sync::oneshot::channel::<()>();
    let second = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        info!("signal: shutting down; a second one ends at once");
        // Nobody listens when the run has just ended.
        let _ended = first.send(());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    };
    let running = run::run(client, options, async {
        // A dropped sender ends the run just as well.
        let _dropped = shutdown.await;
    });
    tokio::select! {
        ended = running => Ok(ended?),
        () = second => {
            warn!("second signal: ending at once");
            Ok(())
        }
    }
}

async fn config(path: Option<PathBuf>, context: Option<String>) -> Result<kube::Config> {
    let options = KubeConfigOptions {
        context,
        ..KubeConfigOptions::default()
    };
    match path {
        Some(path) => {
            let file = Kubeconfig::read_from(&path)
                .with_context(|| format!("cannot read --kubeconfig {}", path.display()))?;
            kube::Config::from_custom_kubeconfig(file, &options)
                .await
                .with_context(|| format!("cannot use --kubeconfig {}", path.display()))
        }
        None if options.context.is_some() => kube::Config::from_kubeconfig(&options)
            .await
            .context("cannot use --context"),
        None => kube::Config::infer()
            .await
            .context("no API server: give --kubeconfig, set $KUBECONFIG or run in a Pod"),
    }
}
