//! Names of endpoints, resolved by the proxy itself and kept as long as their answers say.
//!
//! Queries go to the resolver that the proxy was told about, over sockets that capture leaves alone: its own capture
//! would answer with virtual addresses, which lead back to it. All workers share what is known, which is looked at when a
//! connection is made by name, never on the way of other requests; names that the configuration mentions are asked for
//! ahead and again when their time is over, so that balancing sees every address.
//!
//! Answers of last time stay while resolvers fail. An answer for a name outside the mesh that leads to ourselves, to the
//! link, or to an allotted address is as good as none: whoever rules a name must not rule our neighbourhood.

mod follow;
mod query;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;

pub(crate) use follow::follow;
pub use query::nameservers;

use crate::model::{is_allotted, is_neighbourhood};
use crate::name::Host;

/// Names known at once; the one that was to be asked for again soonest makes room.
const MOST_NAMES: usize = 4096;
/// How long an answer counts at least and at most, whatever it says itself.
const TTL: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];
/// When a resolver that failed is asked again.
const AGAIN: Duration = Duration::from_secs(2);
/// For one question, all resolvers together.
const DEADLINE: Duration = Duration::from_secs(5);

/// What is known of names.
pub(crate) struct Names {
    servers: Vec<SocketAddr>,
    mark: Option<u32>,
    known: Mutex<HashMap<Host, Arc<Name>>>,
    followed: AtomicBool,
}

#[derive(Default)]
struct Name {
    answer: Mutex<Option<Answer>>,
    /// When it was found to have none.
    failed: Mutex<Option<Instant>>,
    /// Many who want a name ask once.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Answer {
    addresses: Arc<[IpAddr]>,
    fresh_until: Instant,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    #[error("the name does not exist")]
    NoSuchName,
    #[error("no resolver gave an answer: {0}")]
    NoAnswer(String),
    #[error("no resolver is configured")]
    NoResolver,
    #[error("it had no address a moment ago")]
    Lately,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("it resolves to {0} only, where hosts outside the mesh must not lead")]
    Forbidden(IpAddr),
}

impl Names {
    pub(crate) fn new(servers: Vec<SocketAddr>, mark: Option<u32>) -> Self {
        Self { servers, mark, known: Mutex::default(), followed: AtomicBool::new(false) }
    }

    /// Whether the caller is the first to ask: one worker keeps names fresh for all.
    fn is_unfollowed(&self) -> bool {
        !self.followed.swap(true, Ordering::Relaxed)
    }

    /// The addresses of a name, never empty, in the order of the answer.
    ///
    /// # Errors
    /// When it has none, or nobody says so in time. `external` names must lead outside.
    pub(crate) async fn addresses(
        &self,
        name: &Host,
        external: bool,
        limit: Duration,
    ) -> Result<Arc<[IpAddr]>, Unresolved> {
        let limit = limit.min(DEADLINE);
        let resolving = self.answer(name);
        let answer = timeout(limit, resolving).await.map_err(|_| Unresolved::Timeout(limit))??;
        if !external || !answer.addresses.iter().any(is_forbidden) {
            return Ok(answer.addresses);
        }
        let allowed: Arc<[IpAddr]> =
            answer.addresses.iter().copied().filter(|address| !is_forbidden(address)).collect();
        if allowed.is_empty() { Err(Unresolved::Forbidden(answer.addresses[0])) } else { Ok(allowed) }
    }

    /// When a name that is known is to be asked for again.
    fn fresh_until(&self, name: &Host) -> Option<Instant> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name)?.answer().map(|answer| answer.fresh_until)
    }

    async fn answer(&self, host: &Host) -> Result<Answer, Unresolved> {
        if let Ok(address) = host.as_str().parse() {
            return Ok(Answer { addresses: Arc::new([address]), fresh_until: Instant::now() + TTL[1] });
        }
        let name = self.name(host);
        if let Some(answer) = name.fresh() {
            return Ok(answer);
        }
        let _turn = name.turn.lock().await;
        if let Some(answer) = name.fresh() {
            return Ok(answer);
        }
        if name.has_failed_lately() {
            return Err(Unresolved::Lately);
        }
        match query::ask_all(&self.servers, self.mark, host).await {
            Ok((addresses, ttl)) => {
                let fresh_until = Instant::now() + ttl.clamp(TTL[0], TTL[1]);
                Ok(name.set(Answer { addresses: addresses.into(), fresh_until }))
            }
            Err(Unresolved::NoSuchName) => {
                name.forget();
                Err(Unresolved::NoSuchName)
            }
            Err(error) => match name.answer() {
                Some(last) => {
                    tracing::debug!(%host, %error, "name not resolved again; its last answer stays");
                    Ok(name.set(Answer { fresh_until: Instant::now() + AGAIN, ..last }))
                }
                None => {
                    name.forget();
                    Err(error)
                }
            },
        }
    }

    fn name(&self, host: &Host) -> Arc<Name> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(host) {
            return Arc::clone(name);
        }
        if known.len() >= MOST_NAMES {
            let oldest = known.iter().min_by_key(|(_, name)| name.answer().map(|answer| answer.fresh_until));
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                known.remove(&oldest);
            }
        }
        Arc::clone(known.entry(host.clone()).or_default())
    }
}

impl Name {
    fn answer(&self) -> Option<Answer> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self) -> Option<Answer> {
        self.answer().filter(|answer| answer.fresh_until > Instant::now())
    }

    fn set(&self, answer: Answer) -> Answer {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
        answer
    }

    fn forget(&self) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = None;
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Those who wait for their turn must not each ask again for what is not there.
    fn has_failed_lately(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < TTL[0])
    }
}

/// Where no name outside the mesh may lead: this machine, its link (with the metadata services of clouds), nobody and
/// everybody, and the addresses that only proxies can answer (EG-04).
fn is_forbidden(address: &IpAddr) -> bool {
    is_neighbourhood(*address) || is_allotted(address.to_canonical())
}

#[cfg(test)]
mod tests;
