//! Fetches the keys of token issuers on behalf of tenants: by the control plane only, never by proxies.
//!
//! What tenants write says where we dial, so where we may dial is ours to say (design: "Fetching on behalf of tenants"):
//! never loopback, link-local, metadata or our own addresses; private ones only where a Service or ServiceEntry declares
//! them. Redirects are not followed, the address that was checked is the one that is dialled, and time and size are bounded.
//! A fetch that fails leaves the last good keys as they are.

mod allowed;
mod fetch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::translate::tokens;
use crate::world::{KeySource, World};

pub use allowed::{Places, is_allowed};
pub use fetch::FetchError;

/// How long keys are good before they are fetched again (Istio's default); up to a tenth is added at random.
const REFRESH: Duration = Duration::from_secs(20 * 60);
/// The first wait after a failure; it doubles up to [`REFRESH`].
const RETRY: Duration = Duration::from_secs(1);
/// Fetches under way at once.
const AT_ONCE: usize = 16;
/// Sources that are followed; further ones get no keys.
const MOST_SOURCES: usize = 1024;

/// What is wanted: by source, where hosts of ours live.
pub type Wanted = BTreeMap<KeySource, Places>;

/// What a fetch came to.
pub type Fetched = (KeySource, Result<String, String>);

/// The sources of a world, with the places that it declares for their hosts.
pub fn wanted(world: &World) -> Wanted {
    let sources = tokens::key_sources(world).take(MOST_SOURCES);
    sources.map(|source| (source.clone(), Places::of(world, &source))).collect()
}

/// Fetches what is wanted, again and again, until `stop`. `own` are addresses of ours, which are never dialled.
pub async fn follow(
    mut wanted: watch::Receiver<Wanted>,
    fetched: mpsc::Sender<Fetched>,
    own: Vec<SocketAddr>,
    stop: CancellationToken,
) {
    let mut due: BTreeMap<KeySource, Due> = BTreeMap::new();
    loop {
        let now = Instant::now();
        let sources = wanted.borrow_and_update().clone();
        due.retain(|source, _| sources.contains_key(source));
        let mut ready = Vec::new();
        for (source, places) in sources {
            let due = due.entry(source.clone()).or_insert_with(|| Due::now(now));
            // Where a host has moved is tried at once, if the last try failed.
            if due.at <= now || (due.places != places && due.wait.is_some()) {
                due.places = places.clone();
                ready.push((source, places));
            }
        }
        // Several at once: a slow issuer of one tenant must not hold up another's.
        let own = &own;
        let fetches = ready.into_iter().map(|(source, places)| async move {
            let result = fetch::keys(&source, &places, own).await;
            (source, result)
        });
        let mut results = stream::iter(fetches).buffer_unordered(AT_ONCE);
        loop {
            let next = tokio::select! {
                next = results.next() => next,
                () = stop.cancelled() => return,
            };
            let Some((source, result)) = next else { break };
            if let Some(due) = due.get_mut(&source) {
                due.done(result.is_ok());
            }
            let result = result.map_err(|error| error.to_string());
            if fetched.send((source, result)).await.is_err() {
                return;
            }
        }
        let next = due.values().map(|due| due.at).min().unwrap_or_else(|| Instant::now() + REFRESH);
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            changed = wanted.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

/// When a source is to be fetched next.
struct Due {
    at: Instant,
    /// The wait that a further failure doubles.
    wait: Option<Duration>,
    places: Places,
}

impl Due {
    fn now(at: Instant) -> Self {
        Self { at, wait: None, places: Places::default() }
    }

    fn done(&mut self, good: bool) {
        self.wait = match (good, self.wait) {
            (true, _) => None,
            (false, None) => Some(RETRY),
            (false, Some(wait)) => Some((wait * 2).min(REFRESH)),
        };
        let wait = self.wait.unwrap_or(REFRESH);
        // Replicas must not ask all at once.
        let jitter = u64::from(rand_byte()) * u64::try_from(wait.as_millis()).unwrap_or(0) / 2560;
        self.at = Instant::now() + wait + Duration::from_millis(jitter);
    }
}

fn rand_byte() -> u8 {
    let mut byte = [0];
    // Without randomness there is no jitter.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    byte[0]
}
