//! `cargo demo`: the real controller, over HTTP, against the embedded API server or, with
//! `--cluster`, a real Kubernetes with nodes and pods. Applies manifests, shows a table that fills in,
//! keeps serving until interrupted.
//!
//! It holds no logic of its own: what it prints is read back from the API.

mod lab;
mod manifests;
mod table;

use std::{
    io::{IsTerminal as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, api::ListParams};

use table::Row;

/// How often the table is read and drawn again.
const REFRESH: Duration = Duration::from_millis(250);
/// With `--once`, how long everything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs Portolan on an embedded API server.
#[derive(Parser, Debug)]
#[command(name = "demo")]
struct Arguments {
    /// Manifests to run on instead of examples/; pools and classes come from examples/ unless given.
    manifests: Vec<PathBuf>,
    /// Exit when everything has settled: 0 if as expected, 1 otherwise.
    #[arg(long)]
    once: bool,
    /// Port of the API server on loopback; any free one by default.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Where the kubeconfig is written.
    #[arg(long, default_value = ".portolan/kubeconfig")]
    kubeconfig: PathBuf,
    /// A real Kubernetes with two nodes, pods and a client outside; needs root, and Go the first time.
    #[arg(long, conflicts_with_all = ["port", "kubeconfig"])]
    cluster: bool,
}

/// What the controller runs against, until it is dropped.
enum Server {
    Embedded(devapi::Server),
    Lab(lab::Lab),
}

impl Server {
    /// Starts it and says how to reach it.
    async fn start(arguments: &Arguments) -> Result<(Self, kube::Config)> {
        if arguments.cluster {
            let (lab, config) = lab::Lab::start().await?;
            return Ok((Self::Lab(lab), config));
        }
        let server = devapi::DevApi::new(devapi::Options::default());
        let (address, front) = server
            .serve(SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)))
            .await
            .context("cannot serve on loopback")?;
        if let Some(folder) = arguments.kubeconfig.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&arguments.kubeconfig, server.kubeconfig(address))?;
        println!("{}", devapi::WHAT_IT_IS_NOT.trim_end());
        println!("  export KUBECONFIG={}", arguments.kubeconfig.display());
        println!("  kubectl get svc,apool,lbc -A\n");
        // Over HTTP, as in a cluster: the demo shares no memory with the controller.
        let config = kube::Config::new(format!("http://{address}").parse()?);
        Ok((Self::Embedded(front), config))
    }

    /// Shows that traffic arrives, where there is any.
    async fn traffic(&self, client: &Client) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Lab(lab) => lab.traffic(client).await,
        }
    }

    async fn stop(self) -> Result<()> {
        match self {
            Self::Embedded(front) => front.shutdown().await,
            Self::Lab(lab) => lab.stop()?,
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();

    let mut objects = manifests::load(&arguments.manifests)?;
    if arguments.cluster {
        // A stock Kubernetes gives cluster IPs itself.
        objects.retain(|object| object.pointer("/spec/usage") != Some(&"ClusterIP".into()));
    }
    let (server, config) = Server::start(&arguments).await?;
    let client = controller::shell::client(config)?;
    manifests::apply(&client, &objects).await?;

    let mut running = tokio::spawn(controller::shell::run(
        client.clone(),
        controller::shell::Options::single("demo"),
        std::future::pending::<()>(),
    ));
    let outcome = tokio::select! {
        ended = &mut running => match ended? {
            Ok(()) => bail!("the controller ended"),
            Err(error) => Err(error).context("the controller failed"),
        },
        settled = watch(&client, &server, arguments.once) => settled,
        _ = tokio::signal::ctrl_c() => Ok(true),
    };
    // The controller first: it would complain about a server that goes away.
    running.abort();
    server.stop().await?;
    match outcome {
        Ok(true) => Ok(()),
        Ok(false) => {
            // A plain exit code: the table has said why.
            std::process::exit(1)
        }
        Err(error) => Err(error),
    }
}

/// Draws the table until interrupted, or with `once` until it has settled.
async fn watch(client: &Client, server: &Server, once: bool) -> Result<bool> {
    let terminal = std::io::stdout().is_terminal();
    let started = tokio::time::Instant::now();
    let mut drawn = String::new();
    let mut announced = false;
    let mut shown = false;
    loop {
        let rows = rows(client).await?;
        let text = table::render(&rows);
        let settled = rows.iter().all(Row::settled);
        if text != drawn && (terminal || settled) {
            let mut out = std::io::stdout().lock();
            if terminal && !drawn.is_empty() {
                // Up over the old table and clear to the end.
                write!(out, "\x1b[{}A\x1b[J", drawn.lines().count())?;
            }
            write!(out, "{text}")?;
            out.flush()?;
            drawn = text.clone();
            announced = false;
        }
        let surprises: Vec<&Row> = rows.iter().filter(|row| !row.as_expected()).collect();
        if settled && !announced {
            announced = true;
            if !terminal || once {
                println!(
                    "\n{} Services settled in {:.1} s, {} as expected",
                    rows.len(),
                    started.elapsed().as_secs_f64(),
                    rows.len() - surprises.len(),
                );
            }
            if !shown {
                shown = true;
                server.traffic(client).await?;
            }
            if once {
                for row in &surprises {
                    println!("NOT AS EXPECTED: {}: {}", row.name, row.surprise());
                }
                return Ok(surprises.is_empty());
            }
        }
        if once && started.elapsed() > PATIENCE {
            print!("{text}");
            bail!("not everything settled in {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(REFRESH).await;
    }
}

async fn rows(client: &Client) -> Result<Vec<Row>> {
    let services: Api<Service> = Api::all(client.clone());
    let mut rows: Vec<Row> = services
        .list(&ListParams::default())
        .await?
        .into_iter()
        .map(Row::from)
        .collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}
