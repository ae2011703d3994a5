//! Which endpoints are near, as groups among which traffic is divided before an endpoint is picked.
//!
//! Groups are made when endpoints or policies change, not when a request comes.

use std::sync::Arc;

use super::Endpoint;
use super::group::Group;
use crate::dice::Dice;
use crate::model::{Distribute, Locality, LocalityPolicy, PriorityLabel};

/// A group takes all the traffic meant for it as long as 1 / 1.4 = 71 % of it are usable (Envoy's overprovisioning
/// factor).
const OVERPROVISIONING: u64 = 140;

/// The farthest rank by locality.
const ELSEWHERE: u8 = 3;

/// A cluster's endpoints in groups.
#[derive(Debug)]
pub(super) enum Groups {
    /// By nearness: a group gets what the ones before it cannot take.
    Tiers(Box<[Group]>),
    /// By fixed shares.
    Shares(Box<[(u32, Group)]>),
}

impl Default for Groups {
    fn default() -> Self {
        Self::Tiers(Box::default())
    }
}

impl Groups {
    /// Divides endpoints as seen from `own`; `group` makes one.
    pub(super) fn new(
        policy: Option<&LocalityPolicy>,
        own: &Locality,
        endpoints: &[Arc<Endpoint>],
        group: impl Fn(Vec<Arc<Endpoint>>) -> Group,
    ) -> Self {
        let Some(policy) = policy else { return Self::Tiers([group(endpoints.to_vec())].into()) };
        match policy.distribute.iter().find(|entry| is_in(own, &entry.from)) {
            Some(entry) => Self::Shares(shares(entry, endpoints, group)),
            None if policy.failover && policy.distribute.is_empty() => {
                Self::Tiers(tiers(policy, own, endpoints).into_iter().map(group).collect())
            }
            None => Self::Tiers([group(endpoints.to_vec())].into()),
        }
    }

    /// The group for a request. `usable` is how many of a group may be used, `left` whether it is to be left, and
    /// `position` a number uniform over all of `u64`.
    pub(super) fn choose(
        &self,
        usable: Option<&dyn Fn(&Group) -> usize>,
        left: &dyn Fn(&Group) -> bool,
        position: impl FnOnce() -> u64,
    ) -> Option<&Group> {
        let able = |group: &Group| match usable {
            Some(usable) => (usable(group) as u64 * OVERPROVISIONING / (group.len() as u64).max(1)).min(100),
            None => 100,
        };
        match self {
            Self::Tiers(tiers) => match &**tiers {
                [] => None,
                [only] => Some(only),
                [first, ..] => {
                    let all_left = tiers.iter().all(left);
                    let loads = || {
                        let health = |tier| if !all_left && left(tier) { 0 } else { able(tier) };
                        tiers.iter().scan(100_u64, move |rest, tier| {
                            let load = health(tier).min(*rest);
                            *rest -= load;
                            Some((load, tier))
                        })
                    };
                    Some(by_weight(loads, position).unwrap_or(first))
                }
            },
            Self::Shares(shares) => {
                let weights = || shares.iter().map(|(share, group)| (u64::from(*share) * able(group), group));
                by_weight(weights, position).or_else(|| shares.first().map(|(_, group)| group))
            }
        }
    }
}

fn by_weight<'a, I: Iterator<Item = (u64, &'a Group)>>(
    weighted: impl Fn() -> I,
    position: impl FnOnce() -> u64,
) -> Option<&'a Group> {
    let total: u64 = weighted().map(|(weight, _)| weight).sum();
    let mut at = Dice::scale(position(), total);
    weighted().find_map(|(weight, group)| {
        if at < weight {
            return Some(group);
        }
        at -= weight;
        None
    })
}

/// One group per pattern that has endpoints; an endpoint counts for the most specific pattern that matches it.
fn shares(
    entry: &Distribute,
    endpoints: &[Arc<Endpoint>],
    group: impl Fn(Vec<Arc<Endpoint>>) -> Group,
) -> Box<[(u32, Group)]> {
    let mut patterns: Vec<_> = entry.to.iter().filter(|(_, share)| **share > 0).collect();
    let breadth = |pattern: &str| 3 - pattern.split('/').take(3).filter(|part| *part != "*").count();
    patterns.sort_by_key(|(pattern, _)| breadth(pattern));
    let of = |endpoint: &Endpoint| {
        patterns.iter().position(|(pattern, _)| is_in(&endpoint.model.locality, pattern))
    };
    let mut members = vec![Vec::new(); patterns.len()];
    for endpoint in endpoints {
        if let Some(at) = of(endpoint) {
            members[at].push(Arc::clone(endpoint));
        }
    }
    let present = patterns.iter().zip(members).filter(|(_, members)| !members.is_empty());
    present.map(|((_, share), members)| (**share, group(members))).collect()
}

/// Endpoints by rank, without gaps.
fn tiers(policy: &LocalityPolicy, own: &Locality, endpoints: &[Arc<Endpoint>]) -> Vec<Vec<Arc<Endpoint>>> {
    let by_place = policy.labels.is_empty() || !policy.regions.is_empty();
    let rank = |endpoint: &Endpoint| {
        let place = if by_place { distance(policy, own, &endpoint.model.locality) } else { 0 };
        (mismatches(&policy.labels, own, &endpoint.model.locality), place)
    };
    let mut ranked: Vec<_> = endpoints.iter().map(|endpoint| (rank(endpoint), endpoint)).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let same = |left: &(_, _), right: &(_, _)| left.0 == right.0;
    let tiers = ranked.chunk_by(same);
    tiers.map(|tier| tier.iter().map(|(_, endpoint)| Arc::clone(endpoint)).collect()).collect()
}

/// 0 for the same sub-zone, 1 the same zone, 2 the same region, 3 elsewhere; 4 elsewhere when the policy names another
/// region to go to. A proxy that does not know where it is prefers nothing.
fn distance(policy: &LocalityPolicy, own: &Locality, other: &Locality) -> u8 {
    if own.region.is_empty() {
        return 0;
    }
    if own.region != other.region {
        let named = policy.regions.iter().find(|failover| failover.from == own.region);
        return ELSEWHERE + u8::from(named.is_some_and(|failover| failover.to != other.region));
    }
    match (own.zone == other.zone, own.subzone == other.subzone) {
        (true, true) => 0,
        (true, false) => 1,
        (false, _) => 2,
    }
}

/// How many of the labels do not count: those from the first that differs on.
fn mismatches(labels: &[PriorityLabel], own: &Locality, other: &Locality) -> usize {
    let differs = |label: &PriorityLabel| {
        let wanted = label.value.as_deref().unwrap_or_else(|| own.label(&label.name));
        wanted != other.label(&label.name)
    };
    labels.iter().position(differs).map_or(0, |at| labels.len() - at)
}

/// Whether a locality is of a pattern `region/zone/subzone`.
fn is_in(locality: &Locality, pattern: &str) -> bool {
    let parts = [&locality.region, &locality.zone, &locality.subzone];
    pattern.split('/').zip(parts).all(|(wanted, part)| wanted == "*" || wanted == part)
}
