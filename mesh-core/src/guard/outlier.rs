//! Ejection of failing endpoints (DestinationRule `outlierDetection`).
//!
//! Counts failures in a row per endpoint and leaves an endpoint out for a while when there are too many. One endpoint may
//! always be ejected and the last usable one never is, whatever `maxEjectionPercent` says: in a pool of fewer than ten,
//! Istio's default of 10 % would never eject anything.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::{Millis, OutlierDetection, PerMillion};

/// An ejection never lasts longer than this, or than the base time if that is longer (Envoy's `max_ejection_time`).
const LONGEST_EJECTION: Millis = Millis::seconds(300);

/// How an attempt at an endpoint ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Status(u16),
    /// No connection could be made, the TLS handshake included.
    ConnectFailed,
    /// The connection or stream ended without an answer.
    Reset,
    /// No answer in time.
    Timeout,
}

impl Outcome {
    fn is_5xx(self) -> bool {
        !matches!(self, Self::Status(..=499))
    }

    /// Whether it is no answer of the endpoint's, but something that happened on the way.
    const fn is_local(self) -> bool {
        !matches!(self, Self::Status(_))
    }

    fn is_gateway_error(self) -> bool {
        !matches!(self, Self::Status(status) if !matches!(status, 502..=504))
    }
}

/// The health of one endpoint as its recent answers tell it.
#[derive(Debug, Default)]
pub struct Health {
    consecutive_5xx: AtomicU32,
    consecutive_gateway_errors: AtomicU32,
    consecutive_local_failures: AtomicU32,
    ejections: AtomicU32,
    /// When the current or last ejection ends; zero when there was none.
    ejected_until: AtomicU64,
}

impl Health {
    /// Whether the endpoint is left out at `now` (see [`super::moment::millis`]).
    pub fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now
    }

    /// Counts an outcome; true when one of the policy's limits is reached.
    fn count(&self, policy: &OutlierDetection, outcome: Outcome) -> bool {
        if let Some(limit) = policy.local_origin_failures {
            let failed = tally(&self.consecutive_local_failures, outcome.is_local(), limit);
            if outcome.is_local() {
                return failed;
            }
        }
        let any = tally(&self.consecutive_5xx, outcome.is_5xx(), policy.consecutive_5xx);
        let gateway = tally(
            &self.consecutive_gateway_errors,
            outcome.is_gateway_error(),
            policy.consecutive_gateway_errors,
        );
        any || gateway
    }

    fn eject(&self, policy: &OutlierDetection, now: u64) -> u64 {
        // Every interval in good health takes back one ejection, so that an old sinner is not punished for ever.
        let healthy = now.saturating_sub(self.ejected_until.load(Ordering::Relaxed));
        let forgiven = healthy / policy.interval.milliseconds().max(1);
        let before = self.ejections.load(Ordering::Relaxed);
        let ejections = before.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)).saturating_add(1);
        let base = policy.base_ejection_time.milliseconds();
        let longest = base.max(LONGEST_EJECTION.milliseconds());
        let until = now + base.saturating_mul(u64::from(ejections)).min(longest);
        self.ejections.store(ejections, Ordering::Relaxed);
        self.consecutive_5xx.store(0, Ordering::Relaxed);
        self.consecutive_gateway_errors.store(0, Ordering::Relaxed);
        self.consecutive_local_failures.store(0, Ordering::Relaxed);
        self.ejected_until.store(until, Ordering::Relaxed);
        until
    }
}

/// Counts failures in a row; true when `limit` is reached. Success writes only when there is something to forget.
fn tally(counter: &AtomicU32, failed: bool, limit: u32) -> bool {
    if limit == 0 {
        return false;
    }
    if failed {
        return counter.fetch_add(1, Ordering::Relaxed) + 1 >= limit;
    }
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
    false
}

/// Decides on ejections for one cluster.
#[derive(Debug, Default)]
pub struct Ejector {
    /// The end of the latest ejection: before it, and only then, picks must look at each endpoint's health.
    latest: AtomicU64,
    /// Held while an ejection is decided, so that two workers never eject the last two endpoints at once. Never held on
    /// the path of a healthy request.
    gate: Mutex<()>,
}

impl Ejector {
    /// Whether any endpoint may be ejected at `now`.
    pub fn is_active(&self, now: u64) -> bool {
        self.latest.load(Ordering::Relaxed) > now
    }

    /// Counts an outcome of `health`'s endpoint and ejects it when the policy says so; true when it was ejected.
    pub fn report<'a>(
        &self,
        policy: &OutlierDetection,
        health: &Health,
        outcome: Outcome,
        now: u64,
        all: impl Iterator<Item = &'a Health>,
    ) -> bool {
        // What comes in late from before the ejection does not count towards the next.
        if health.is_ejected(now) || !health.count(policy, outcome) {
            return false;
        }
        let _deciding = self.gate.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (mut total, mut ejected) = (0_u64, 0_u64);
        for other in all {
            total += 1;
            ejected += u64::from(other.is_ejected(now));
        }
        if health.is_ejected(now) || ejected >= most_ejected(total, policy.max_ejection) {
            return false;
        }
        let until = health.eject(policy, now);
        self.latest.fetch_max(until, Ordering::Relaxed);
        true
    }
}

/// How many of `total` endpoints may be out at once: the share, but at least one, and never all.
fn most_ejected(total: u64, share: PerMillion) -> u64 {
    let allowed = total * u64::from(share.parts()) / u64::from(PerMillion::ALWAYS.parts());
    allowed.max(1).min(total.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            interval: Millis::seconds(10),
            base_ejection_time: Millis::seconds(30),
            max_ejection: PerMillion::percent(10.0),
            min_health: PerMillion::NEVER,
            local_origin_failures: None,
        }
    }

    fn fail(ejector: &Ejector, pool: &[Health], at: usize, times: usize, now: u64) -> bool {
        (0..times).any(|_| ejector.report(&policy(), &pool[at], Outcome::Status(503), now, pool.iter()))
    }

    #[test]
    fn the_fifth_failure_in_a_row_ejects_for_the_base_time() {
        let (ejector, pool) = (Ejector::default(), [Health::default(), Health::default()]);
        assert!(!fail(&ejector, &pool, 0, 4, 1_000));
        ejector.report(&policy(), &pool[0], Outcome::Status(200), 1_000, pool.iter());
        assert!(!fail(&ejector, &pool, 0, 4, 1_000), "a success starts the count anew");
        assert!(fail(&ejector, &pool, 0, 1, 1_000));
        assert!(pool[0].is_ejected(30_999) && !pool[0].is_ejected(31_000));
        fail(&ejector, &pool, 0, 9, 30_000);
        assert!(!fail(&ejector, &pool, 0, 4, 31_000), "late failures do not count towards the next ejection");
    }

    /// D5: one may always go, the last never.
    #[test]
    fn one_may_always_be_ejected_and_the_last_never() {
        let (ejector, pool) = (Ejector::default(), [Health::default(), Health::default()]);
        assert!(fail(&ejector, &pool, 0, 5, 1_000));
        assert!(!fail(&ejector, &pool, 1, 50, 1_000));
        let alone = [Health::default()];
        assert!(!fail(&Ejector::default(), &alone, 0, 50, 1_000));
        assert_eq!(
            [0, 1, 2, 9, 10, 25].map(|n| most_ejected(n, PerMillion::percent(10.0))),
            [0, 0, 1, 1, 1, 2]
        );
        assert_eq!(most_ejected(4, PerMillion::ALWAYS), 3);
    }

    #[test]
    fn failures_on_the_way_may_be_counted_apart_from_answers() {
        let split = OutlierDetection { local_origin_failures: Some(2), ..policy() };
        let (ejector, pool) = (Ejector::default(), [Health::default(), Health::default()]);
        let report = |outcome| ejector.report(&split, &pool[0], outcome, 1_000, pool.iter());
        assert!((0..4).all(|_| !report(Outcome::Status(503))));
        assert!(!report(Outcome::ConnectFailed), "the fifth 5xx would be an answer");
        assert!(!report(Outcome::Status(200)), "an answer proves that it can be reached");
        assert!(!report(Outcome::Reset));
        assert!(report(Outcome::Timeout));
    }

    #[test]
    fn each_ejection_lasts_longer_until_health_is_proven() {
        let (ejector, pool) = (Ejector::default(), [Health::default(), Health::default()]);
        fail(&ejector, &pool, 0, 5, 1_000);
        fail(&ejector, &pool, 0, 5, 31_000);
        assert!(pool[0].is_ejected(90_999) && !pool[0].is_ejected(91_000));
        fail(&ejector, &pool, 0, 5, 91_000 + 20_000);
        assert!(!pool[0].is_ejected(111_000 + 30_000), "two healthy intervals take back two ejections");
    }
}
