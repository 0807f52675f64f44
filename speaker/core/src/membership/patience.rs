//! How patient the membership is.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

use super::MOST_BYTES;

/// How long the dead are remembered by foca.
const REMEMBER: Duration = Duration::from_secs(600);

/// Probing, as the settings say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) probe_period: Duration,
    pub(crate) probe_rtt: Duration,
    pub(crate) suspicion: Duration,
}

/// Foca's settings for that many nodes.
pub(super) fn config(patience: Patience, size: usize) -> Config {
    // As foca's own for a LAN: 4 log10(n + 1), but no less than what also covers losses.
    let transmissions = (0..).take_while(|n| 10_usize.pow(*n) <= size).count() * 4;
    let periodic = |millis, members: usize| {
        Some(PeriodicParams {
            frequency: Duration::from_millis(millis),
            num_members: NonZeroUsize::MIN.saturating_add(members - 1),
        })
    };
    Config {
        probe_period: patience.probe_period,
        probe_rtt: patience.probe_rtt,
        num_indirect_probes: NonZeroUsize::MIN.saturating_add(2),
        max_transmissions: NonZeroU8::new(u8::try_from(transmissions).unwrap_or(u8::MAX).max(8))
            .unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: patience.suspicion,
        remove_down_after: Some(REMEMBER),
        max_packet_size: NonZeroUsize::new(MOST_BYTES).unwrap_or(NonZeroUsize::MIN),
        // Who is dead learns it from every message that it gets from us.
        notify_down_members: false,
        periodic_announce: periodic(5_000, 1),
        // The caller hails them.
        periodic_announce_to_down_members: None,
        periodic_gossip: periodic(200, 3),
    }
}
