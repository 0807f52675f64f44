//! `portolan plan`: shows what would be done, and does nothing.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::Args;
use controller::core::plan::{
    manifests::Manifests,
    network,
    offline::{self, Given},
    report::Report,
};

use super::{Output, read};

#[derive(Args)]
pub(crate) struct PlanArguments {
    /// Plan this Service of the cluster, against the account: svc/NAME.
    #[arg(value_name = "svc/NAME", required_unless_present = "files")]
    service: Option<String>,
    /// Plan the Services of these manifests, offline: YAML or JSON, - for stdin.
    #[arg(short = 'f', long = "filename", value_name = "FILE", conflicts_with_all = ["service", "kubeconfig", "context", "aws_region", "aws_vpc_id"])]
    files: Vec<PathBuf>,
    /// With -f: the LoadBalancerClasses.
    #[arg(long, value_name = "FILE", requires = "files")]
    class: Option<PathBuf>,
    /// With -f: the nodes, e.g. of kubectl get nodes -o yaml.
    #[arg(long, value_name = "FILE", requires = "files")]
    nodes: Option<PathBuf>,
    /// With -f: the VPC; docs/plan.md describes the file.
    #[arg(long, value_name = "FILE", requires = "files")]
    network: Option<PathBuf>,
    /// The namespace of the Service, and of manifests that do not say.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    account: super::AccountArguments,
}

/// Fails when a Service does not get what it asks for.
pub(crate) fn plan(arguments: PlanArguments) -> Result<ExitCode> {
    let output = arguments.output;
    let report = match arguments.service.clone() {
        None => offline(arguments)?,
        Some(service) => online(&service, arguments)?,
    };
    output.print(&report)?;
    Ok(match report.is_clean() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn offline(arguments: PlanArguments) -> Result<Report> {
    let mut manifests = Manifests::default();
    for path in &arguments.files {
        let (place, text) = read(path)?;
        manifests.read(&place, &text)?;
    }
    if manifests.services.is_empty() && manifests.unreadable.is_empty() {
        let places = arguments
            .files
            .iter()
            .map(|path| path.display().to_string());
        bail!("no Service is in {}", places.collect::<Vec<_>>().join(", "));
    }
    if let Some(path) = &arguments.class {
        let (place, text) = read(path)?;
        let before = manifests.classes.len();
        manifests.read(&place, &text)?;
        if manifests.classes.len() == before {
            bail!("--class: no LoadBalancerClass is in {place}");
        }
    }
    if let Some(path) = &arguments.nodes {
        let (place, text) = read(path)?;
        let before = manifests.nodes.len();
        manifests.read(&place, &text)?;
        if manifests.nodes.len() == before {
            bail!("--nodes: no Node is in {place}");
        }
    }
    let network = match &arguments.network {
        None => None,
        Some(path) => {
            let (place, text) = read(path)?;
            Some(network::read(&place, &text)?)
        }
    };
    let given = Given {
        network,
        cluster: arguments.account.place.cluster_name,
        namespace: arguments.namespace,
    };
    offline::plan(manifests, given).map_err(|rejection| anyhow::anyhow!(rejection.message))
}

#[cfg(not(feature = "aws"))]
fn online(service: &str, _arguments: PlanArguments) -> Result<Report> {
    service_name(service)?;
    bail!(super::WITHOUT_AWS)
}

#[cfg(feature = "aws")]
fn online(service: &str, arguments: PlanArguments) -> Result<Report> {
    use model::ServiceKey;

    let name = service_name(service)?;
    super::block_on(async {
        let (client, namespace, cloud) = super::account::connect(arguments.account).await?;
        let namespace = arguments.namespace.unwrap_or(namespace);
        let key = ServiceKey::new(&namespace, name);
        let now = jiff::Timestamp::now().as_second();
        let report = controller::shell::account::preview::preview(&client, &cloud, &key, now);
        Ok(report.await?)
    })
}

/// As kubectl has it.
fn service_name(text: &str) -> Result<&str> {
    let name = ["svc/", "service/", "services/"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    match name {
        Some(name) if !name.is_empty() && !name.contains('/') => Ok(name),
        Some(_) | None => bail!("{text}: write svc/NAME, and -n for the namespace"),
    }
}
