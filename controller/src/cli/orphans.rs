//! `portolan orphans`: what no Service is for.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::Output;

#[derive(Args)]
pub(crate) struct OrphansArguments {
    /// Delete them: targets drain first, which takes minutes.
    #[arg(long)]
    delete: bool,
    /// How it is printed.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    #[command(flatten)]
    account: super::AccountArguments,
}

/// Fails when something could not be deleted that was to be.
#[cfg(feature = "aws")]
pub(crate) fn orphans(arguments: OrphansArguments) -> Result<ExitCode> {
    use controller::shell::account::orphans;

    let report = super::block_on(async {
        let (client, _, cloud) = super::account::connect(arguments.account).await?;
        let mut report = orphans::list(&client, &cloud).await?;
        if arguments.delete {
            orphans::delete(&client, &cloud, &mut report).await?;
        }
        Ok(report)
    })?;
    arguments.output.print(&report)?;
    Ok(match arguments.delete && !report.is_clean() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

#[cfg(not(feature = "aws"))]
pub(crate) fn orphans(_arguments: OrphansArguments) -> Result<ExitCode> {
    anyhow::bail!(super::WITHOUT_AWS)
}
