//! SIGTERM and SIGINT: the first drains, the second ends at once.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// Runs until it ends by itself or, after a second signal, at once. What it is given resolves at the
/// first one.
///
/// # Errors
/// When signals cannot be listened for; otherwise what it says.
pub async fn until_signalled<R: Future<Output = Result<()>>>(
    run: impl FnOnce(tokio::sync::oneshot::Receiver<()>) -> R,
) -> Result<()> {
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
    tokio::select! {
        ended = run(shutdown) => ended,
        () = second => {
            warn!("second signal: ending at once");
            Ok(())
        }
    }
}
