//! What limits traffic: gauges, token buckets, the retry budget and the detection of outliers.
//!
//! All of it is plain atomics shared by every worker, so that what an operator sees as one number is one number. Nothing
//! here reads a clock.
//!
//! Invariants: a permit gives back exactly what it took when it is dropped; the last usable endpoint of a cluster is
//! never ejected.

pub mod bucket;
pub mod gauge;
pub mod keyed;
pub mod moment;
pub mod outlier;

pub use bucket::{Bucket, Pace};
pub use gauge::{ConnectionPermit, Gauge, PendingPermit, RequestPermit, RetryPermit};
pub use keyed::{ConcurrencyPermit, Keyed, Keys};
pub use outlier::{Ejector, Health, Outcome};

/// Retries that are always allowed at once, however little traffic there is.
pub const LEAST_RETRIES: u32 = 3;

/// One retry per this many active requests: a budget of 20 %.
const REQUESTS_PER_RETRY: u32 = 5;

/// How many retries may be under way at once (`maxRetries` when set, else the budget).
pub fn retry_limit(active_requests: u32, configured: Option<u32>) -> u32 {
    configured.unwrap_or_else(|| LEAST_RETRIES.max(active_requests / REQUESTS_PER_RETRY))
}
