//! Rate limits, compiled: what they match and what has been counted.
//!
//! What is counted lives on under a limit's name, so that no change of configuration gives anybody a new burst.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::matcher::CompiledMatch;
use crate::guard::{Bucket, ConcurrencyPermit, Keyed, Keys, Pace, moment};
use crate::message::RequestHead;
use crate::model::{Amount, LimitKey, LimitScope, RateLimit};

/// All limits of a proxy.
#[derive(Debug, Default)]
pub struct Limits {
    /// Those for every request, in the order of delivery.
    pub workload: Box<[Arc<Limit>]>,
    named: HashMap<Box<str>, Arc<Limit>>,
}

/// One limit.
#[derive(Debug)]
pub struct Limit {
    /// As delivered.
    pub model: RateLimit,
    matches: Box<[CompiledMatch]>,
    live: Arc<Live>,
}

/// What outlives a change of the limit.
#[derive(Debug, Default)]
struct Live {
    one: Bucket,
    keyed: Keyed,
    active: Arc<Keys>,
}

/// What a limit lets in.
#[derive(Debug)]
pub enum Admitted {
    /// A request, with nothing to give back.
    Counted,
    /// A request, as long as it lasts.
    UnderWay(ConcurrencyPermit),
}

impl Limits {
    /// Compiles limits; the texts say what could not be. The last good version of what is refused stays.
    pub(super) fn new(models: &[RateLimit], previous: Option<&Self>) -> (Self, Vec<String>) {
        let (mut all, mut problems) = (Vec::with_capacity(models.len()), Vec::new());
        for model in models {
            let before = previous.and_then(|before| before.get(&model.name));
            match Limit::new(model, before) {
                Ok(limit) => all.push(Arc::new(limit)),
                Err(reason) => {
                    problems.push(format!("{}: {reason}", model.origin));
                    all.extend(before.cloned());
                }
            }
        }
        let workload =
            all.iter().filter(|limit| limit.model.scope == LimitScope::Workload).cloned().collect();
        let named = all.into_iter().map(|limit| (limit.model.name.as_str().into(), limit)).collect();
        (Self { workload, named }, problems)
    }

    /// A limit by name.
    pub fn get(&self, name: &str) -> Option<&Arc<Limit>> {
        self.named.get(name)
    }
}

impl Limit {
    fn new(model: &RateLimit, before: Option<&Arc<Self>>) -> Result<Self, String> {
        if !(400..600).contains(&model.status) {
            return Err(format!("status: {} is not from 400 to 599", model.status));
        }
        let compile = |each| CompiledMatch::new("", each);
        let matches = model.matches.iter().map(compile).collect::<Result<_, _>>();
        // Another key counts other things.
        let same = before.filter(|before| before.model.key == model.key);
        Ok(Self {
            model: model.clone(),
            matches: matches.map_err(|error| format!("match: {error}"))?,
            live: same.map(|before| Arc::clone(&before.live)).unwrap_or_default(),
        })
    }

    /// Whether it is about a request from a client.
    pub fn concerns(&self, head: &RequestHead, port: u16, client: IpAddr) -> bool {
        let matches =
            self.matches.is_empty() || self.matches.iter().any(|each| each.check(head, port, None).is_ok());
        let client = client.to_canonical();
        matches && !self.model.exempt.iter().any(|block| block.contains(&client))
    }

    /// Takes one request from what is counted under `key`.
    ///
    /// # Errors
    /// With the time after which there is room again, where that can be said.
    pub fn take(&self, key: Option<&[u8]>, now: Instant) -> Result<Admitted, Option<Duration>> {
        match self.model.amount {
            Amount::Rate { requests, per, burst } => {
                let (pace, now) = (Pace::new(requests, per.duration(), burst), moment::nanos(now));
                let taken = match key {
                    None => self.live.one.take(pace, now),
                    Some(key) => self.live.keyed.take(key, pace, now),
                };
                taken.map(|()| Admitted::Counted).map_err(Some)
            }
            Amount::Concurrent(most) => {
                self.live.active.take(key.unwrap_or_default(), most).map(Admitted::UnderWay).ok_or(None)
            }
        }
    }

    /// What is counted apart.
    pub const fn key(&self) -> &LimitKey {
        &self.model.key
    }
}
