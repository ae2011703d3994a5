//! The endpoints of a cluster at one moment, and the picks among them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use hashbrown::HashMap;

use super::group::{Group, Now, part};
use super::locality::Groups;
use super::warm::Warming;
use super::{Endpoint, EndpointKey, EndpointState};
use crate::dice::Dice;
use crate::guard::moment;
use crate::model::{self, Locality, PerMillion, Resource};

/// What a pick may depend on.
#[derive(Debug)]
pub struct Pick<'a> {
    /// The time of the attempt.
    pub now: Instant,
    /// Randomness.
    pub dice: &'a mut Dice,
    /// What a hashing balancer goes by; without it such a balancer draws at random.
    pub hash: Option<u64>,
    /// Endpoints that are left out as long as there are others: those that earlier attempts of this request have tried.
    pub avoid: &'a [EndpointKey],
    /// Endpoints whose whole locality is left out as long as there are others (`retryRemoteLocalities`).
    pub leave: &'a [EndpointKey],
}

impl<'a> Pick<'a> {
    /// The first pick for a request.
    pub fn first(now: Instant, dice: &'a mut Dice, hash: Option<u64>) -> Self {
        Self { now, dice, hash, avoid: &[], leave: &[] }
    }
}

/// How endpoints may be used just now.
#[derive(Debug, Clone, Copy)]
pub struct Condition {
    /// Whether any endpoint may be ejected: if not, no one's health is looked at.
    pub ejections: bool,
    /// Below this share of usable endpoints, ejections are ignored.
    pub min_health: PerMillion,
}

/// What a set was made from; as long as it is the same, so is the set.
#[derive(Debug, Clone)]
pub struct Made {
    /// The endpoints, if any have been delivered.
    pub endpoints: Option<Arc<Resource>>,
    /// The policy.
    pub cluster: Arc<model::Cluster>,
    /// Where the proxy is.
    pub own: Arc<Locality>,
}

impl Made {
    /// The endpoints as they were delivered.
    fn configured(&self) -> &[model::Endpoint] {
        match self.endpoints.as_deref() {
            Some(Resource::Endpoints(model)) => &model.endpoints,
            _ => &[],
        }
    }

    /// Whether a set made from `other` would be the same.
    pub fn is(&self, other: &Self) -> bool {
        let same_endpoints = match (&self.endpoints, &other.endpoints) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same_endpoints
            && Arc::ptr_eq(&self.cluster, &other.cluster)
            && (Arc::ptr_eq(&self.own, &other.own) || self.own == other.own)
    }
}

/// The endpoints of a cluster; immutable.
#[derive(Debug, Default)]
pub struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
    groups: Groups,
    made: Option<Made>,
    has_names: bool,
    /// When the youngest endpoint was first met; known from the first pick on.
    warm: OnceLock<u64>,
}

impl EndpointSet {
    /// Builds the set from a cluster's endpoints; state is taken over from `previous` by address and pod UID.
    pub fn new(made: Made, previous: Option<&Self>) -> Self {
        let models = made.configured().to_vec();
        Self::resolved(made, models, previous)
    }

    /// The same with addresses in place of the names in the configuration.
    pub fn resolved(made: Made, models: Vec<model::Endpoint>, previous: Option<&Self>) -> Self {
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
        let group = |members| Group::new(&made.cluster.load_balancer, members);
        let groups = Groups::new(made.cluster.locality.as_ref(), &made.own, &endpoints, group);
        let is_name =
            |endpoint: &model::Endpoint| matches!(endpoint.address, model::EndpointAddress::Name(..));
        let has_names = made.configured().iter().any(is_name);
        Self { endpoints, groups, made: Some(made), has_names, warm: OnceLock::new() }
    }

    /// Whether the configuration names some endpoints by names that are to be resolved.
    pub const fn has_names(&self) -> bool {
        self.has_names
    }

    /// The endpoints as they were configured, names included.
    pub fn configured(&self) -> &[model::Endpoint] {
        self.made.as_ref().map_or(&[], Made::configured)
    }

    /// What the set was built from.
    pub fn made(&self) -> Option<&Made> {
        self.made.as_ref()
    }

    /// All endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Picks one; `None` only when there is none that the proxy's locality may use.
    pub fn pick(
        &self,
        cluster: &model::Cluster,
        condition: Condition,
        cursor: &Cursor,
        mut how: Pick<'_>,
    ) -> Option<Arc<Endpoint>> {
        let now = moment::millis(how.now);
        let ejections = condition.ejections && self.health_suffices(condition.min_health, now);
        let warming = self.warming(cluster, now);
        let (hash, leave) = (how.hash, how.leave);
        let usable = |group: &Group| group.usable(now);
        let usable: Option<&dyn Fn(&Group) -> usize> = if ejections { Some(&usable) } else { None };
        let position = || hash.unwrap_or_else(|| how.dice.wide());
        let group = self.groups.choose(usable, &|group| group.has_one_of(leave), position)?;
        let ejections = ejections.then_some(now);
        group.pick(Now { balancer: &cluster.load_balancer, cursor, ejections, warming }, &mut how)
    }

    /// The policy for new endpoints, while there are any. An endpoint is new from the moment it may first be picked.
    fn warming(&self, cluster: &model::Cluster, now: u64) -> Option<Warming> {
        let policy = cluster.warm_up?;
        let youngest = self.warm.get_or_init(|| {
            self.endpoints.iter().map(|endpoint| endpoint.state.met(now)).max().unwrap_or_default()
        });
        (now < youngest + policy.duration.milliseconds()).then_some(Warming { policy, now })
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

/// Where round robin stands; one for all workers.
#[derive(Debug, Default)]
pub struct Cursor {
    turn: AtomicU32,
    /// Rolled at the first pick, so that a fleet of proxies does not begin at one endpoint.
    offset: OnceLock<u32>,
}

impl Cursor {
    pub(super) fn start(&self, dice: &mut Dice) -> Turns<'_> {
        Turns { turn: &self.turn, offset: *self.offset.get_or_init(|| dice.roll()) }
    }
}

pub(super) struct Turns<'a> {
    turn: &'a AtomicU32,
    offset: u32,
}

impl Turns<'_> {
    /// The next position below `total`. Steps are about 0.618 of the whole and share no divisor with it, so that every
    /// position comes once per round and a heavy endpoint's turns are spread over the round.
    pub(super) fn next(&self, total: u64) -> u64 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_add(self.offset);
        let mut stride = (total * 618 / 1000).max(1);
        while common_divisor(stride, total) != 1 {
            stride += 1;
        }
        u64::try_from(u128::from(turn) * u128::from(stride) % u128::from(total)).unwrap_or(0)
    }

    /// The next position as a part of the whole: multiples of the golden ratio lie as evenly as can be.
    pub(super) fn next_part(&self) -> f64 {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).wrapping_add(self.offset);
        part(turn.wrapping_mul(0x9E37_79B9))
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
