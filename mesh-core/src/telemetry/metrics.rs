//! Counters and histograms: every metric name of the data plane is in this file or in `scrape`, and in
//! `docs/metrics.md`.
//!
//! Each worker writes series of its own; a scrape adds them up. The number of series is bounded: past the bound new
//! label sets go to one series labelled `overflow`, so that a client who invents hosts cannot fill the memory.

mod recent;
mod scheme;
mod scrape;
mod series;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;

pub use series::BUCKETS;

pub(super) use series::SeriesCache;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $text:literal, $help:literal;)+) => {
        /// A count of the proxy's own, without labels.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter { $($(#[$doc])* $name,)+ }

        const COUNTERS: &[(&str, &str)] = &[$(($text, $help),)+];
    };
}

counters! {
    /// Connections accepted.
    Connections => "mesh_downstream_connections", "Connections accepted";
    /// Connections refused since the limit is reached.
    ConnectionsRefused => "mesh_downstream_connections_refused", "Connections refused at the connection limit";
    /// Cleartext connections refused where mesh TLS is demanded.
    PlaintextRefused => "mesh_plaintext_refused", "Cleartext connections refused where mutual TLS is required";
    /// Handshakes that failed, either side.
    HandshakesFailed => "mesh_tls_handshakes_failed", "TLS handshakes that failed";
    /// Connections made to upstreams.
    UpstreamConnections => "mesh_upstream_connections", "Connections made to upstreams";
    /// Attempts after the first.
    Retries => "mesh_upstream_retries", "Attempts after the first";
    /// Retries forgone since the budget was used up.
    RetriesOverBudget => "mesh_upstream_retries_over_budget", "Retries forgone since the budget was used up";
    /// Endpoints ejected.
    Ejections => "mesh_upstream_ejections", "Endpoints ejected by outlier detection";
    /// Requests about which an external authorizer was asked.
    Checks => "mesh_authorization_checks", "Requests about which an external authorizer was asked";
    /// Checks that failed.
    ChecksFailed => "mesh_authorization_checks_failed", "Checks by external authorizers that failed";
    /// Requests that policies in dry run would have denied.
    DryRunDenied => "mesh_authorization_dry_run_denied", "Requests that policies in dry run would have denied";
    /// Requests refused by rate limits.
    RateLimited => "mesh_rate_limited", "Requests refused by local rate limits";
    /// Configuration taken into use.
    ConfigUpdates => "mesh_config_updates", "Configuration updates taken into use";
    /// Resources refused.
    ConfigRefused => "mesh_config_refused", "Resources refused";
    /// Lookups the control plane did not answer in time.
    DiscoveryTimeouts => "mesh_discovery_timeouts", "Lookups that the control plane did not answer in time";
    /// Times the stream to the control plane was lost.
    StreamsLost => "mesh_control_streams_lost", "Times the stream to the control plane was lost";
    /// Certificates taken into use.
    Certificates => "mesh_certificates_issued", "Certificates taken into use";
    /// DNS queries answered from the mesh.
    DnsAnswered => "mesh_dns_answered", "Captured DNS queries answered from the mesh";
    /// DNS queries that another resolver answered.
    DnsForwarded => "mesh_dns_forwarded", "Captured DNS queries that another resolver answered";
    /// DNS queries answered with SERVFAIL.
    DnsFailed => "mesh_dns_failed", "Captured DNS queries answered with SERVFAIL";
    /// What was captured as DNS and is none.
    DnsRefused => "mesh_dns_refused", "Captured messages that are no DNS query, or none that is taken";
    /// DNS queries dropped since too many were in flight.
    DnsDropped => "mesh_dns_dropped", "Captured DNS queries dropped since too many were in flight";
    /// Log lines dropped since the writer was behind.
    LogDropped => "mesh_access_log_dropped_lines", "Access log lines dropped since the writer was behind";
    /// Spans dropped since the exporter was behind.
    SpansDropped => "mesh_spans_dropped", "Spans dropped since the exporter was behind";
}

/// All counts of a process.
#[derive(Default)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<Mutex<series::Tables>>>>,
    counters: [AtomicU64; COUNTERS.len()],
    connected: AtomicU64,
    blocked: Mutex<BTreeMap<String, u64>>,
}

/// Blocked hosts told apart at most; the rest is `other`.
const MAX_BLOCKED: usize = 1_000;

impl Metrics {
    /// Adds one.
    pub fn count(&self, counter: Counter) {
        self.counters[counter as usize].fetch_add(1, Relaxed);
    }

    /// A counter's value.
    pub fn value(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// Says whether the stream to the control plane is up.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(u64::from(connected), Relaxed);
    }

    /// Counts traffic to a host that egress policy blocks.
    pub fn count_blocked(&self, host: &str) {
        let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        let host = if blocked.contains_key(host) || blocked.len() < MAX_BLOCKED { host } else { "other" };
        *blocked.entry(host.to_owned()).or_default() += 1;
    }

    /// The exposition in OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: only when the text buffer fails.
    pub fn expose(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(scrape::Scrape(Arc::clone(self))));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    #[cfg(test)]
    pub(super) fn request_series(&self) -> usize {
        scrape::Sums::of(self).requests()
    }
}
