//! Endpoints among which one is picked, and the balancers.

use std::sync::Arc;

use super::hash::Table;
use super::set::{Cursor, Pick};
use super::warm::Warming;
use super::{Endpoint, EndpointKey};
use crate::dice::Dice;
use crate::model::LoadBalancer;

/// Tries to draw an endpoint that may be used, before all of them are looked at (Envoy's host selection attempts).
const DRAWS: usize = 5;

/// Endpoints among which one is picked. Immutable.
#[derive(Debug, Default)]
pub(super) struct Group {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Running sums of the weights; empty when all weigh the same.
    sums: Box<[u64]>,
    /// Of hashing balancers.
    table: Option<Table>,
}

/// What holds for one pick.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) balancer: &'a LoadBalancer,
    pub(super) cursor: &'a Cursor,
    /// Whether endpoints may be ejected; then at which time that is asked.
    pub(super) ejections: Option<u64>,
    /// Set while an endpoint is warming up.
    pub(super) warming: Option<Warming>,
}

impl Group {
    pub(super) fn new(balancer: &LoadBalancer, endpoints: Vec<Arc<Endpoint>>) -> Self {
        let table = match balancer {
            LoadBalancer::ConsistentHash(policy) if endpoints.len() > 1 => {
                Some(Table::new(policy.table, &endpoints))
            }
            _ => None,
        };
        Self { sums: running_sums(&endpoints), endpoints: endpoints.into(), table }
    }

    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// How many are not ejected.
    pub(super) fn usable(&self, now: u64) -> usize {
        self.endpoints.iter().filter(|endpoint| !endpoint.state.health().is_ejected(now)).count()
    }

    pub(super) fn has_one_of(&self, keys: &[EndpointKey]) -> bool {
        self.endpoints.iter().any(|endpoint| keys.contains(endpoint.key()))
    }

    /// Picks one; `None` only when there is none.
    pub(super) fn pick(&self, now: Now<'_>, how: &mut Pick<'_>) -> Option<Arc<Endpoint>> {
        if self.endpoints.len() <= 1 {
            return self.endpoints.first().cloned();
        }
        let healthy = |at: usize| {
            now.ejections.is_none_or(|moment| !self.endpoints[at].state.health().is_ejected(moment))
        };
        let picked = match (now.balancer, how.hash, &self.table) {
            // A hash names one endpoint; a retry that avoided it would land on one that knows nothing of the session.
            (LoadBalancer::ConsistentHash(_), Some(hash), Some(table)) => table.find(hash, healthy),
            (LoadBalancer::LeastRequest, ..) => self.less_loaded(now, &healthy, how),
            (LoadBalancer::RoundRobin, ..) => self.in_turn(now, &healthy, how),
            _ => {
                let (avoid, dice) = (how.avoid, &mut *how.dice);
                self.draw(&healthy, avoid, || self.at_random(dice))
            }
        };
        let at = picked.or_else(|| self.any_usable(&healthy, how))?;
        Some(Arc::clone(&self.endpoints[at]))
    }

    fn in_turn(&self, now: Now<'_>, healthy: &impl Fn(usize) -> bool, how: &mut Pick<'_>) -> Option<usize> {
        let (avoid, turns) = (how.avoid, now.cursor.start(how.dice));
        match now.warming {
            Some(warming) => {
                self.at_warm_share(warming, turns.next_part(), |at| self.fresh(at, healthy, avoid))
            }
            None => self.draw(healthy, avoid, || self.at_share(turns.next(self.total()))),
        }
    }

    /// Draws two and takes the one with fewer active requests for its weight.
    ///
    /// Both are drawn by weight, so that an idle pool follows the weights and a busy one evens out the load.
    fn less_loaded(
        &self,
        now: Now<'_>,
        healthy: &impl Fn(usize) -> bool,
        how: &mut Pick<'_>,
    ) -> Option<usize> {
        if let Some(warming) = now.warming {
            return self.less_loaded_warm(warming, healthy, how);
        }
        let first = self.draw(healthy, how.avoid, || self.at_random(how.dice))?;
        let Some(second) = self.draw_other(first, healthy, how) else { return Some(first) };
        let load = |at: usize| {
            let endpoint = &self.endpoints[at];
            (u64::from(endpoint.state.active()), u64::from(endpoint.weight()))
        };
        let ((first_load, first_weight), (second_load, second_weight)) = (load(first), load(second));
        // a/w < b/v without division.
        Some(if second_load * first_weight < first_load * second_weight { second } else { first })
    }

    fn less_loaded_warm(
        &self,
        warming: Warming,
        healthy: &impl Fn(usize) -> bool,
        how: &mut Pick<'_>,
    ) -> Option<usize> {
        let avoid = how.avoid;
        let fresh = |at: usize| self.fresh(at, healthy, avoid);
        let first = self.at_warm_share(warming, part(how.dice.roll()), fresh)?;
        let other = |at: usize| at != first && fresh(at);
        let Some(second) = self.at_warm_share(warming, part(how.dice.roll()), other) else {
            return Some(first);
        };
        let load = |at: usize| f64::from(self.endpoints[at].state.active()) / self.warm_weight(warming, at);
        Some(if load(second) < load(first) { second } else { first })
    }

    /// A second endpoint, other than `first`: drawn by weight from the rest.
    fn draw_other(
        &self,
        first: usize,
        healthy: &impl Fn(usize) -> bool,
        how: &mut Pick<'_>,
    ) -> Option<usize> {
        let own = if self.sums.is_empty() { 1 } else { u64::from(self.endpoints[first].weight()) };
        let start = if self.sums.is_empty() { first as u64 } else { self.sums[first] - own };
        let rest = self.total() - own;
        self.draw(healthy, how.avoid, || {
            let position = how.dice.below_wide(rest);
            self.at_share(if position < start { position } else { position + own })
        })
    }

    /// Draws until an endpoint may be used and has not been tried; gives up after a few draws.
    fn draw(
        &self,
        healthy: &impl Fn(usize) -> bool,
        avoid: &[EndpointKey],
        mut next: impl FnMut() -> usize,
    ) -> Option<usize> {
        (0..DRAWS).map(|_| next()).find(|&at| self.fresh(at, healthy, avoid))
    }

    fn fresh(&self, at: usize, healthy: &impl Fn(usize) -> bool, avoid: &[EndpointKey]) -> bool {
        healthy(at) && !avoid.contains(self.endpoints[at].key())
    }

    /// The draws have failed: looks at every endpoint from a random one on, and relaxes what it wants step by step.
    fn any_usable(&self, healthy: &impl Fn(usize) -> bool, how: &mut Pick<'_>) -> Option<usize> {
        let start = self.at_random(how.dice);
        let count = self.endpoints.len();
        let round = || (0..count).map(move |step| (start + step) % count);
        round()
            .find(|&at| self.fresh(at, healthy, how.avoid))
            .or_else(|| round().find(|&at| healthy(at)))
            .or(Some(start))
    }

    fn at_random(&self, dice: &mut Dice) -> usize {
        self.at_share(dice.below_wide(self.total()))
    }

    /// The endpoint whose share of the weights holds `position`.
    fn at_share(&self, position: u64) -> usize {
        if self.sums.is_empty() {
            return usize::try_from(position).unwrap_or(0).min(self.endpoints.len() - 1);
        }
        self.sums.partition_point(|&sum| sum <= position).min(self.endpoints.len() - 1)
    }

    /// The same among the `usable`, by the weights of the moment: only while an endpoint warms up are all looked at.
    fn at_warm_share(&self, warming: Warming, part: f64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let all = || (0..self.endpoints.len()).filter(|&at| usable(at));
        let mut left = part * all().map(|at| self.warm_weight(warming, at)).sum::<f64>();
        let found = all().find(|&at| {
            left -= self.warm_weight(warming, at);
            left < 0.0
        });
        // Sums of floats may fall short of the whole by a rounding error.
        found.or_else(|| all().last())
    }

    fn warm_weight(&self, warming: Warming, at: usize) -> f64 {
        let endpoint = &self.endpoints[at];
        f64::from(endpoint.weight()) * warming.factor(&endpoint.state)
    }

    fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(self.endpoints.len() as u64)
    }
}

/// A roll as a part of the whole.
pub(super) fn part(roll: u32) -> f64 {
    f64::from(roll) / (f64::from(u32::MAX) + 1.0)
}

fn running_sums(endpoints: &[Arc<Endpoint>]) -> Box<[u64]> {
    let uniform = endpoints.windows(2).all(|pair| pair[0].weight() == pair[1].weight());
    if uniform {
        return Box::default();
    }
    let mut sum = 0;
    let mut add = |endpoint: &Arc<Endpoint>| {
        sum += u64::from(endpoint.weight());
        sum
    };
    endpoints.iter().map(&mut add).collect()
}
