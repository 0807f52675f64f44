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
use speaker_core::Settings;
use tracing::info;
use tracing_subscriber::{
    filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

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

/// `$RUST_LOG` as in the controller, but for its conditions on spans and fields: they need regular
/// expressions, whose code and tables were a tenth of this program.
fn log_to_stderr(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").ok();
    let wanted = wanted.and_then(|text| text.parse::<Targets>().ok());
    let filter = wanted.unwrap_or_else(|| DEFAULT_FILTER.parse().unwrap_or_default());
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let log = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => log.with(lines).init(),
        LogFormat::Json => log.with(lines.json()).init(),
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
    let config = daemon::config(arguments.kubeconfig, arguments.context).await?;
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

    daemon::until_signalled(async |shutdown| {
        let running = run::run(client, options, async {
            // A dropped sender ends the run just as well.
            let _dropped = shutdown.await;
        });
        Ok(running.await?)
    })
    .await
}
