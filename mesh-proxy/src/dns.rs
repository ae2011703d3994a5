//! DNS for the applications of the pod: names of the mesh from the control plane, all others from the resolvers
//! the pod had before.
//!
//! | name | mesh says | answer |
//! | --- | --- | --- |
//! | any | found | its addresses of the asked family, maybe none; other record types are empty |
//! | under the cluster domain | not found | NXDOMAIN |
//! | under the cluster domain, longer than any service's | not asked | NXDOMAIN |
//! | other | not found | what an upstream resolver says; SERVFAIL when none does in time; NXDOMAIN when there are none |
//! | any | unavailable | SERVFAIL: only an explicit "not found" lets a name leave the mesh |
//! | reverse (`arpa`) | not asked | as other names |
//!
//! What it does not do: it caches nothing (the subscription below the lookup does), validates no DNSSEC, and serves no
//! SRV or PTR records of its own. Negative answers carry no SOA record, so that nobody caches them: a service
//! that appears is seen at once.
//!
//! Invariants:
//! - The listeners are on loopback: answers must leave from the address the redirect rule led the query to.
//! - Queries in flight, connections and waiting times are bounded; what is too much is dropped and counted.

mod question;
mod reply;
mod serve;
mod upstream;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::name::Host;
use mesh_core::telemetry::{Counter, Metrics};

pub(crate) use serve::Listeners;

use question::{Question, Transport};

/// How long applications may keep a virtual address, in tests.
#[cfg(test)]
pub(crate) const VIRTUAL_ADDRESS_TTL: Duration = Duration::from_secs(30);
/// How long applications may keep the members of a headless service, in tests.
#[cfg(test)]
pub(crate) const HEADLESS_TTL: Duration = Duration::from_secs(5);

/// What the mesh says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The name's addresses, of both families, and how long they may be kept.
    Found {
        /// One virtual address, or every member of a headless service.
        addresses: Vec<IpAddr>,
        /// As the control plane says: long for virtual addresses, short for members of headless services.
        ttl: Duration,
    },
    /// The mesh has no such name.
    NotFound,
    /// The control plane did not answer, and nothing is known from before.
    Unavailable,
}

/// How names are resolved.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The domain of the cluster's services, `cluster.local`.
    pub(crate) cluster_domain: Host,
    /// The resolvers for names the mesh does not have, tried in order. May be empty.
    pub(crate) upstream: Vec<SocketAddr>,
    /// The mark of queries to them, which exempts them from capture. None where the proxy is exempt by its uid.
    pub(crate) mark: Option<NonZeroU32>,
    /// How long a lookup may take: less than the 5 s after which applications ask again.
    pub(crate) lookup_deadline: Duration,
    /// How long all upstream resolvers together may take.
    pub(crate) upstream_deadline: Duration,
    /// UDP queries in flight; more are dropped.
    pub(crate) queries: usize,
    /// TCP connections; more wait to be accepted.
    pub(crate) connections: usize,
}

impl Settings {
    /// The defaults, with the cluster's domain and upstream resolvers.
    pub(crate) fn new(cluster_domain: Host, upstream: Vec<SocketAddr>, mark: Option<NonZeroU32>) -> Self {
        Self {
            cluster_domain,
            upstream,
            mark,
            lookup_deadline: Duration::from_secs(4),
            upstream_deadline: Duration::from_secs(2),
            queries: 512,
            connections: 64,
        }
    }
}

/// Answers queries with the help of `L`, the mesh's lookup of a name.
pub(crate) struct Server<L> {
    settings: Settings,
    lookup: L,
    metrics: Arc<Metrics>,
}

/// What the answer to a question is.
enum Outcome {
    Addresses(Vec<IpAddr>, Duration),
    NoSuchName,
    Failed,
    /// The bytes of another resolver's answer.
    Forwarded(Vec<u8>),
}

impl<L: AsyncFn(Host) -> Lookup + 'static> Server<L> {
    /// A server that answers nothing yet; see [`Self::serve`].
    pub(crate) fn new(settings: Settings, lookup: L, metrics: Arc<Metrics>) -> Self {
        Self { settings, lookup, metrics }
    }

    /// The answer to one message, or nothing when it deserves none.
    async fn answer(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let question = match Question::parse(message, transport) {
            Ok(question) => question,
            Err(refusal) => {
                self.metrics.count(Counter::DnsRefused);
                return refusal.reply();
            }
        };
        let outcome = self.resolve(&question).await;
        self.metrics.count(match &outcome {
            Outcome::Addresses(..) | Outcome::NoSuchName => Counter::DnsAnswered,
            Outcome::Forwarded(_) => Counter::DnsForwarded,
            Outcome::Failed => Counter::DnsFailed,
        });
        reply::encode(&question, outcome)
    }

    async fn resolve(&self, question: &Question<'_>) -> Outcome {
        let Some(host) = question.host().filter(|host| !is_reverse(host)) else {
            return self.resolve_elsewhere(question).await;
        };
        let in_cluster = labels_below(&host, &self.settings.cluster_domain);
        if in_cluster.is_some_and(|labels| labels > MOST_SERVICE_LABELS) {
            return Outcome::NoSuchName;
        }
        let lookup = tokio::time::timeout(self.settings.lookup_deadline, (self.lookup)(host)).await;
        match lookup.unwrap_or(Lookup::Unavailable) {
            Lookup::Found { addresses, ttl } => Outcome::Addresses(addresses, ttl),
            Lookup::NotFound if in_cluster.is_some() => Outcome::NoSuchName,
            Lookup::NotFound => self.resolve_elsewhere(question).await,
            Lookup::Unavailable => Outcome::Failed,
        }
    }

    async fn resolve_elsewhere(&self, question: &Question<'_>) -> Outcome {
        if self.settings.upstream.is_empty() {
            return Outcome::NoSuchName;
        }
        upstream::forward(&self.settings, question).await.map_or(Outcome::Failed, Outcome::Forwarded)
    }
}

/// Labels of the longest name below the cluster domain: `pod.service.namespace.svc`. What the search list makes of a
/// full name, `reviews.default.svc.cluster.local.default.svc.cluster.local`, is longer and costs no lookup.
const MOST_SERVICE_LABELS: usize = 4;

/// How many labels `host` has in front of `domain`, when it lies below it.
fn labels_below(host: &Host, domain: &Host) -> Option<usize> {
    let labels = host.as_str().strip_suffix(domain.as_str())?.strip_suffix('.')?;
    Some(labels.split('.').count())
}

fn is_reverse(host: &Host) -> bool {
    host.as_str().ends_with(".arpa")
}
