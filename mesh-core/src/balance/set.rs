//! The endpoints of a cluster at one moment, and the picks among them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use hashbrown::HashMap;

use super::hash::Maglev;
use super::{Endpoint, EndpointKey, EndpointState};
use crate::dice::Dice;
use crate::guard::moment;
use crate::model::{self, LoadBalancer, PerMillion, Resource};

/// Tries to draw an endpoint that may be used, before all of them are looked at (Envoy's host selection attempts).
const DRAWS: usize = 5;

/// What a pick may depend on.
#[derive(Debug)]
pub struct Pick<'a> {
    /// The time of the attempt.
    pub now: Instant,
    /// Randomness.
    pub dice: &'a mut Dice,
    /// What a hashing balancer goes by; without it such a balancer draws at random.
    pub hash: Option<u64>,
    /// Endpoints that earlier attempts of this request have tried.
    pub avoid: &'a [EndpointKey],
}

/// How endpoints may be used just now.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Whether any endpoint may be ejected: if not, no one's health is looked at.
    pub ejections: bool,
    /// Below this share of usable endpoints, ejections are ignored.
    pub min_health: PerMillion,
}

/// The endpoints of a cluster; immutable.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
    /// Running sums of the weights; empty when all weigh the same.
    sums: Box<[u64]>,
    maglev: OnceLock<Maglev>,
    source: Option<Arc<Resource>>,
    has_names: bool,
}

impl EndpointSet {
    /// Builds the set from a cluster's endpoints; state is taken over from `previous` by address and pod UID.
    pub fn new(source: Option<Arc<Resource>>, previous: Option<&Self>) -> Self {
        let models = match source.as_deref() {
            Some(Resource::Endpoints(model)) => model.endpoints.clone(),
            _ => Vec::new(),
        };
        Self::resolved(source, models, previous)
    }

    /// The same with addresses in place of the names in `source`.
    pub fn resolved(
        source: Option<Arc<Resource>>,
        models: Vec<model::Endpoint>,
        previous: Option<&Self>,
    ) -> Self {
        let known: HashMap<&EndpointKey, &Arc<EndpointState>> = previous
            .iter()
            .flat_map(|set| set.endpoints.iter())
            .map(|endpoint| (endpoint.key(), &endpoint.state))
            .collect();
        let endpoint = |model: model::Endpoint| {
            let key = EndpointKey::of(&model);
            let state = match known.get(&key) {
                Some(state) => Arc::clone(state),
                None => Arc::new(EndpointState::new(key)),
            };
            Arc::new(Endpoint { model, state, host: None })
        };
        let endpoints: Box<[_]> = models.into_iter().map(endpoint).collect();
        let sums = running_sums(&endpoints);
        let has_names = named(source.as_deref()).next().is_some();
        Self { endpoints, sums, maglev: OnceLock::new(), source, has_names }
    }

    /// Whether the configuration names some endpoints by names that are to be resolved.
    pub const fn has_names(&self) -> bool {
        self.has_names
    }

    /// The endpoints as they were configured, names included.
    pub fn configured(&self) -> &[model::Endpoint] {
        match self.source.as_deref() {
            Some(Resource::Endpoints(model)) => &model.endpoints,
            _ => &[],
        }
    }

    /// What the set was built from.
    pub fn source(&self) -> Option<&Arc<Resource>> {
        self.source.as_ref()
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Picks one; `None` only when the set is empty.
    pub fn pick(
        &self,
        balancer: &LoadBalancer,
        condition: Condition,
        cursor: &Cursor,
        mut how: Pick<'_>,
    ) -> Option<Arc<Endpoint>> {
        if self.endpoints.len() <= 1 {
            return self.endpoints.first().cloned();
        }
        let now = moment::millis(how.now);
        let ejections = condition.ejections && self.health_suffices(condition.min_health, now);
        let healthy = |at: usize| !(ejections && self.endpoints[at].state.health().is_ejected(now));
        let picked = match (balancer, how.hash) {
            // A hash names one endpoint; a retry that avoided it would land on one that knows nothing of the session.
            (LoadBalancer::ConsistentHash(policy), Some(hash)) => {
                let maglev = self.maglev.get_or_init(|| Maglev::new(policy, &self.endpoints));
                maglev.walk(hash).find(|&at| healthy(at))
            }
            (LoadBalancer::LeastRequest, _) => self.less_loaded(&healthy, &mut how),
            (LoadBalancer::RoundRobin, _) => {
                let avoid = how.avoid;
                let start = cursor.start(how.dice);
                self.draw(&healthy, avoid, || self.at_share(start.next(self.total())))
            }
            _ => {
                let (avoid, dice) = (how.avoid, &mut *how.dice);
                self.draw(&healthy, avoid, || self.at_random(dice))
            }
        };
        let at = picked.or_else(|| self.any_usable(&healthy, &mut how))?;
        Some(Arc::clone(&self.endpoints[at]))
    }

    /// Draws two and takes the one with fewer active requests for its weight.
    ///
    /// Both are drawn by weight, so that an idle pool follows the weights and a busy one evens out the load.
    fn less_loaded(&self, healthy: &impl Fn(usize) -> bool, how: &mut Pick<'_>) -> Option<usize> {
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
        let fresh = |at: &usize| healthy(*at) && !avoid.contains(self.endpoints[*at].key());
        (0..DRAWS).map(|_| next()).find(fresh)
    }

    /// The draws have failed: looks at every endpoint from a random one on, and relaxes what it wants step by step.
    fn any_usable(&self, healthy: &impl Fn(usize) -> bool, how: &mut Pick<'_>) -> Option<usize> {
        let start = self.at_random(how.dice);
        let count = self.endpoints.len();
        let round = || (0..count).map(move |step| (start + step) % count);
        round()
            .find(|&at| healthy(at) && !how.avoid.contains(self.endpoints[at].key()))
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

    fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or(self.endpoints.len() as u64)
    }

    fn health_suffices(&self, least: PerMillion, now: u64) -> bool {
        if least == PerMillion::NEVER {
            return true;
        }
        let usable = self.endpoints.iter().filter(|each| !each.state.health().is_ejected(now)).count() as u64;
        usable * u64::from(PerMillion::ALWAYS.parts())
            >= self.endpoints.len() as u64 * u64::from(least.parts())
    }
}

fn named(source: Option<&Resource>) -> impl Iterator<Item = &model::Endpoint> {
    let all = match source {
        Some(Resource::Endpoints(model)) => model.endpoints.as_slice(),
        _ => &[],
    };
    all.iter().filter(|endpoint| matches!(endpoint.address, model::EndpointAddress::Name(..)))
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

/// Where round robin stands; one for all workers.
#[derive(Debug, Default)]
pub struct Cursor {
    turn: AtomicU32,
    /// Rolled at the first pick, so that a fleet of proxies does not begin at one endpoint.
    offset: OnceLock<u32>,
}

impl Cursor {
    fn start(&self, dice: &mut Dice) -> Turns<'_> {
        Turns { turn: &self.turn, offset: *self.offset.get_or_init(|| dice.roll()) }
    }
}

struct Turns<'a> {
    turn: &'a AtomicU32,
    offset: u32,
}

impl Turns<'_> {
    /// The next position below `total`. Steps are about 0.618 of the whole and share no divisor with it, so that every
    /// position comes once per round and a heavy endpoint's turns are spread over the round.
    fn next(&self, total: u64) -> u64 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_add(self.offset);
        let mut stride = (total * 618 / 1000).max(1);
        while common_divisor(stride, total) != 1 {
            stride += 1;
        }
        u64::try_from(u128::from(turn) * u128::from(stride) % u128::from(total)).unwrap_or(0)
    }
}

fn common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests;
