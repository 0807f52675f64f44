//! `invariants`: reads a cluster through its API alone and judges what must hold in it. Prints one
//! line of JSON; exits 1 when something does not hold.

#![expect(
    clippy::indexing_slicing,
    reason = "a JSON value indexed by a name is null where there is none"
)]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;
use cluster::invariants;
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Judges a cluster.
#[derive(Parser)]
struct Arguments {
    /// How to reach it.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// Look again and again for numbers held twice, until standard input ends; otherwise once, for
    /// everything that holds when nothing changes any more.
    #[arg(long)]
    watch: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let file = Kubeconfig::read_from(&arguments.kubeconfig)?;
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.proxy_url = None; // the environment's proxy does not know a loopback address
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let told = if arguments.watch {
        watch(&client).await?
    } else {
        let services = list(&client, "/api/v1/services").await?;
        let blocks = list(&client, "/apis/portolan.dev/v1alpha1/allocationblocks").await?;
        let pools = list(&client, "/apis/portolan.dev/v1alpha1/addresspools").await?;
        let wrong = invariants::settled(&services, &blocks, &pools);
        json!({"services": services.len(), "blocks": blocks.len(), "wrong": wrong})
    };
    println!("{told}");
    Ok(match told["wrong"].as_array() {
        Some(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Some(_) | None => ExitCode::FAILURE,
    })
}

async fn watch(client: &Client) -> Result<Value> {
    let mut wrong = Vec::new();
    let (mut looks, mut unanswered) = (0, 0);
    let mut end = [0];
    let mut stdin = tokio::io::stdin();
    loop {
        tokio::select! {
            read = stdin.read(&mut end) => {
                read?;
                return Ok(json!({"looks": looks, "unanswered": unanswered, "wrong": wrong}));
            }
            () = tokio::time::sleep(PAUSE) => {}
        }
        match list(client, "/api/v1/services").await {
            Ok(services) => {
                looks += 1;
                for double in invariants::doubles(&services) {
                    if !wrong.contains(&double) {
                        wrong.push(double);
                    }
                }
            }
            Err(_) => unanswered += 1, // the API server is being restarted
        }
    }
}

async fn list(client: &Client, path: &str) -> Result<Vec<Value>> {
    let request = http::Request::get(path).body(Vec::new())?;
    let list: Value = client.request(request).await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}
