//! `portolan numbers` and `portolan numbers audit`: shows, and changes nothing.

use std::{net::IpAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use controller::{
    core::{
        audit,
        effect::Failure,
        holdings::{Filter, Given, Group},
    },
    shell,
};
use crds::{AddressPool, AllocationBlock, NodePortPool};
use k8s_openapi::api::{core::v1::Service, networking::v1::ServiceCIDR};
use kube::{Api, Client, api::ListParams};
use model::Number;

use super::{Output, block_on, cluster};

mod node;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NumbersArguments {
    #[command(subcommand)]
    command: Option<Numbers>,
    /// Only this port of nodes.
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Only this address.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "port")]
    ip: Option<IpAddr>,
    /// Only what Services of this namespace have, and what is kept for them.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Only such numbers.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Instead, numbers that are free: the lowest of each pool.
    #[arg(long, value_enum, value_name = "KIND", conflicts_with_all = ["port", "ip", "namespace", "kind"])]
    free: Option<Kind>,
    /// With --free: of this pool only.
    #[arg(long, value_name = "NAME", requires = "free")]
    pool: Option<String>,
    /// With --free: so many of each pool, and of each IP family.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "free", value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    #[command(flatten)]
    printed: Printed,
}

#[derive(Args)]
struct Printed {
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    cluster: cluster::ClusterArguments,
}

#[derive(Subcommand)]
enum Numbers {
    /// Compare nodePorts with the ports that this node uses itself; fails when there is a collision.
    Audit(AuditArguments),
}

#[derive(Args)]
struct AuditArguments {
    /// Where the node's proc file system is.
    #[arg(long, value_name = "PATH", default_value = "/proc")]
    proc: PathBuf,
    #[command(flatten)]
    printed: Printed,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Ports of nodes, those for health checks among them.
    NodePort,
    /// Cluster IPs.
    ClusterIp,
    /// Addresses of load balancers and spec.externalIPs.
    External,
}

impl From<Kind> for Group {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::NodePort => Self::NodePort,
            Kind::ClusterIp => Self::ClusterIp,
            Kind::External => Self::External,
        }
    }
}

/// Fails when --free finds fewer numbers than it is to, and when the audit finds a collision.
pub(crate) fn numbers(arguments: NumbersArguments) -> Result<ExitCode> {
    if let Some(Numbers::Audit(arguments)) = arguments.command {
        return audit(arguments);
    }
    let Printed { output, cluster } = arguments.printed;
    let given = block_on(async { read(&cluster::connect(cluster).await?).await })?;
    if let Some(kind) = arguments.free {
        let count = usize::from(arguments.count);
        let free = given.free(kind.into(), arguments.pool.as_deref(), count);
        output.print(&free)?;
        return Ok(code(free.complete));
    }
    let port = arguments.port.map(Number::port);
    output.print(&given.report(&Filter {
        number: port.or_else(|| arguments.ip.map(Number::from)),
        namespace: arguments.namespace,
        group: arguments.kind.map(Group::from),
    }))?;
    Ok(ExitCode::SUCCESS)
}

fn audit(arguments: AuditArguments) -> Result<ExitCode> {
    let Printed { output, cluster } = arguments.printed;
    let mut node = node::read(&arguments.proc)?;
    let given = block_on(async {
        let client = cluster::connect(cluster).await?;
        let mut given = Given::default();
        read_services(&client, &mut given).await?;
        read_node_port_pools(&client, &mut given).await?;
        Ok(given)
    })?;
    node::name_processes(&arguments.proc, &mut node);
    let report = audit::audit(&given, &node);
    output.print(&report)?;
    Ok(code(report.is_clean()))
}

fn code(good: bool) -> ExitCode {
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Services before the ledger: a number is in the ledger before it is in a Service.
async fn read(client: &Client) -> Result<Given> {
    let mut given = Given::default();
    read_services(client, &mut given).await?;
    let blocks = cluster::list::<AllocationBlock>(client).await?;
    blocks.objects.iter().for_each(|block| given.block(block));
    let pools = cluster::list::<AddressPool>(client).await?;
    (pools.objects.iter()).for_each(|pool| given.address_pool(pool));
    for warning in blocks.warnings.into_iter().chain(pools.warnings) {
        given.warn(warning);
    }
    read_node_port_pools(client, &mut given).await?;
    read_addresses(client, &mut given).await;
    Ok(given)
}

/// Only where some pool gives cluster IPs, and where the API server has such objects.
async fn read_addresses(client: &Client, given: &mut Given) {
    if !given.gives_cluster_ips() {
        return;
    }
    let cidrs: Api<ServiceCIDR> = Api::all(client.clone());
    match cidrs.list(&ListParams::default()).await {
        Ok(cidrs) => (cidrs.items.iter()).for_each(|cidr| given.service_cidr(cidr)),
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => given.warn(format!(
            "ServiceCIDRs cannot be listed, so that cluster IPs outside them count as free: {error}"
        )),
    }
    match shell::recorded(client).await {
        Ok(recorded) => given.recorded(recorded),
        Err(Failure::NotFound) => {}
        Err(failure) => given.warn(format!(
            "IPAddress objects cannot be listed, so that cluster IPs are compared without them: {failure}"
        )),
    }
}

async fn read_services(client: &Client, given: &mut Given) -> Result<()> {
    let services = cluster::list::<Service>(client).await?;
    (services.objects.iter()).for_each(|service| given.service(service));
    (services.warnings.into_iter()).for_each(|warning| given.warn(warning));
    Ok(())
}

async fn read_node_port_pools(client: &Client, given: &mut Given) -> Result<()> {
    let pools = cluster::list::<NodePortPool>(client).await?;
    (pools.objects.iter()).for_each(|pool| given.node_port_pool(pool));
    (pools.warnings.into_iter()).for_each(|warning| given.warn(warning));
    Ok(())
}
