//! What to tell the user about nodePorts that stay against a policy. Ports that follow it are not
//! told of, and those that wait for their turn to be changed neither: an Event says it when they are.

use super::*;

/// Whether the nodePorts are as their policy wants them; there only while they are not.
pub const NODE_PORTS_ALLOCATED: &str = "portolan.dev/NodePortsAllocated";

/// The condition, if there is something to tell.
pub(super) fn say(stray: Option<&Missing>) -> Option<Say> {
    stray.map(|stray| waiting(NODE_PORTS_ALLOCATED, stray, &[]))
}

/// One Event when it is news.
pub(super) fn event(record: &ServiceRecord, say: &[Say]) -> Option<(bool, Reason, String)> {
    let say = say.iter().find(|say| say.type_ == NODE_PORTS_ALLOCATED)?;
    let mut before = record.conditions.iter();
    let before = before.find(|old| old.type_ == NODE_PORTS_ALLOCATED);
    let news = before.is_none_or(|old| old.reason != say.reason.as_str());
    news.then(|| (true, say.reason, say.message.clone()))
}

/// It waits for this, beside what it waits for anyway.
pub(super) fn wait(settled: &mut Settled, record: &ServiceRecord, stray: &Missing) {
    let (_, waits) = settled
        .waits
        .get_or_insert_with(|| (stray.reason, Waits::default()));
    waits.pools.extend(stray.waits_for.iter().cloned());
    if stray.reason == Reason::AddressInUse {
        let asked = record
            .request
            .iter()
            .flat_map(|request| &request.node_ports);
        let asked = asked.map(|(_, number)| Number::port(*number));
        waits.numbers.extend(asked);
    }
}
