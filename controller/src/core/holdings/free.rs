//! `portolan numbers --free`: numbers that a Service may ask for. A suggestion claims nothing: by
//! the time it is used, somebody else may have it.

use allocator::{Allocator, Band, Pool, RangeSet, block::BlockId};
use model::{Number, Space, Use};
use serde::Serialize;

use super::{Given, Group, fill};

/// One number that is free.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suggestion {
    /// An address or a port.
    pub number: String,
    /// Of which it is.
    pub pool: String,
}

/// Everything that is printed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Free {
    /// By pool, the lowest first.
    pub free: Vec<Suggestion>,
    /// Why there are not more, and what could not be read.
    pub warnings: Vec<String>,
    /// Whether each pool had as many as were asked for.
    pub complete: bool,
}

impl Given {
    /// The lowest `count` free numbers of each space of a pool, or of every pool for such numbers.
    pub fn free(&self, group: Group, pool: Option<&str>, count: usize) -> Free {
        let allocator = self.ledger_and_services(None);
        let mut free = Free {
            free: Vec::new(),
            warnings: self.warnings.clone(),
            complete: true,
        };
        let mut found = false;
        for (candidate, state) in allocator.pools() {
            let named = pool.is_none_or(|name| *candidate.name == *name);
            if !named || !candidate.serves(group.usage()) {
                continue;
            }
            found = true;
            let which = format!("{} {}", fill::resource(candidate), candidate.name);
            if let (_, Some(why)) = fill::condition(candidate, state) {
                free.warnings.push(format!("{which} {why}"));
                free.complete &= pool.is_none();
                continue;
            }
            for space in [Space::V4, Space::V6, Space::Port] {
                if candidate.ranges(space).is_empty() {
                    continue;
                }
                let numbers = lowest(&allocator, candidate, space, count);
                if numbers.len() < count {
                    free.complete = false;
                    let what = fill::word(space);
                    free.warnings.push(format!(
                        "{which} has only {} free of {count} asked for ({what})",
                        numbers.len()
                    ));
                }
                free.free
                    .extend(numbers.into_iter().map(|number| Suggestion {
                        number: number.to_string(),
                        pool: candidate.name.to_string(),
                    }));
            }
        }
        if !found {
            free.complete = false;
            free.warnings.push(self.no_pool(group, pool));
        }
        free.complete &= !free.free.is_empty();
        free
    }

    fn no_pool(&self, group: Group, pool: Option<&str>) -> String {
        let what = match group {
            Group::NodePort => "NodePortPool",
            Group::ClusterIp => "AddressPool of usage ClusterIP",
            Group::External => "AddressPool of usage LoadBalancer",
        };
        let Some(name) = pool else {
            return format!("there is no {what}");
        };
        let invalid = self.pools.iter().find(|record| *record.name == *name);
        match invalid.and_then(|record| record.pool.as_ref().err()) {
            Some(rejection) => rejection.message.clone(),
            None => format!("there is no {what} {name}"),
        }
    }
}

/// What of a space a pool may hand out, but for addresses that it avoids one by one.
fn stock(pool: &Pool, space: Space) -> RangeSet {
    let ranges = pool.ranges(space);
    let ranges = match pool.usage {
        Use::ClusterIp => {
            let bands = (ranges.ranges().iter())
                .map(|&(first, last)| Band::of_cluster_ips(space, first, last));
            RangeSet::new(bands.flat_map(|band| band.fixed.into_iter().chain(band.free)))
        }
        Use::LoadBalancer | Use::NodePort | Use::HealthCheckNodePort => ranges.clone(),
    };
    ranges
        .subtract(pool.reserved(space))
        .subtract(pool.unusable(space))
}

fn lowest(allocator: &Allocator, pool: &Pool, space: Space, count: usize) -> Vec<Number> {
    let mut left = stock(pool, space);
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let Some(number) = allocator.next_free(space, &left) else {
            break;
        };
        let block = BlockId::of(number);
        let until = if allocator.is_quarantined(block) {
            block.last().value
        } else {
            let avoided = pool.avoid_buggy_ips
                && space == Space::V4
                && matches!(number.value & 0xff, 0 | 0xff);
            if !avoided {
                numbers.push(number);
            }
            number.value
        };
        left = left.subtract(&RangeSet::new([(0, until)]));
    }
    numbers
}
