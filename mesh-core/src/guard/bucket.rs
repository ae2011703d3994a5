//! A token bucket in one atomic word, without a lock and without a clock.
//!
//! What is kept is the time at which the bucket will be full again (the generic cell rate algorithm, ITU-T I.371):
//! each request moves it on by one interval, and is refused where that would be more than the burst ahead of now. So an
//! idle bucket needs nobody to refill it.
//!
//! Invariant: in any span of time at most `burst + span / interval` requests are admitted, whatever the workers do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How fast requests are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Nanoseconds from one request to the next, at least one.
    interval: u64,
    /// How far ahead of now the time may be at which the bucket is full again.
    ahead: u64,
}

impl Pace {
    /// `requests` in `per`, and `burst` at once after a rest. What is less than one counts as one.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX / 4);
        let interval = (per / u64::from(requests.max(1))).max(1);
        let ahead = interval.saturating_mul(u64::from(burst.max(1))).min(u64::MAX / 4);
        Self { interval, ahead }
    }

    /// Takes one request out of a bucket that is full at `full_at`: when it is full then, and whether there was room or
    /// how long until there is.
    pub(super) fn take(self, full_at: u64, now: u64) -> (u64, Result<(), Duration>) {
        // After a change to a faster pace nobody waits for what the slower one had noted.
        let full_at = full_at.clamp(now, now.saturating_add(self.ahead));
        let next = full_at.saturating_add(self.interval);
        let limit = now.saturating_add(self.ahead);
        if next <= limit { (next, Ok(())) } else { (full_at, Err(Duration::from_nanos(next - limit))) }
    }
}

/// A bucket of its own cache line: every worker writes it. Full at first.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one request; `now` as [`super::moment::nanos`] counts.
    ///
    /// # Errors
    /// With the time until there is room for one more.
    pub fn take(&self, pace: Pace, now: u64) -> Result<(), Duration> {
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let (next, taken) = pace.take(full_at, now);
            if next == full_at {
                return taken;
            }
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(other) => full_at = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Tokens as a fraction, refilled at every step: the rule as it is written.
    struct Naive {
        /// In units of one request times the interval.
        tokens: u64,
        last: u64,
    }

    impl Naive {
        fn take(&mut self, interval: u64, burst: u64, now: u64) -> bool {
            self.tokens = (self.tokens + (now - self.last)).min(interval * burst);
            self.last = now;
            let admitted = self.tokens >= interval;
            self.tokens -= if admitted { interval } else { 0 };
            admitted
        }
    }

    proptest! {
        #[test]
        fn a_bucket_admits_what_counting_tokens_admits(
            requests in 1u32..50,
            milliseconds in 1u64..5_000,
            burst in 1u32..20,
            steps in prop::collection::vec(0u64..400_000_000, 1..200),
        ) {
            let pace = Pace::new(requests, Duration::from_millis(milliseconds), burst);
            let (bucket, mut now) = (Bucket::default(), 1 << 40);
            let mut naive = Naive { tokens: pace.interval * u64::from(burst), last: now };
            for step in steps {
                now += step;
                let expected = naive.take(pace.interval, u64::from(burst), now);
                prop_assert_eq!(bucket.take(pace, now).is_ok(), expected);
            }
        }

        #[test]
        fn who_waits_as_told_is_admitted(requests in 1u32..1000, burst in 1u32..10) {
            let pace = Pace::new(requests, Duration::from_secs(1), burst);
            let bucket = Bucket::default();
            let wait = (0..=burst).find_map(|_| bucket.take(pace, 1 << 40).err()).unwrap();
            let wait = u64::try_from(wait.as_nanos()).unwrap();
            prop_assert!(bucket.take(pace, (1 << 40) + wait - 1).is_err());
            prop_assert!(bucket.take(pace, (1 << 40) + wait).is_ok());
        }
    }

    #[test]
    fn a_faster_pace_does_not_wait_for_the_slower_one() {
        let bucket = Bucket::default();
        let slow = Pace::new(1, Duration::from_secs(3600), 1);
        assert!(bucket.take(slow, 1 << 50).is_ok() && bucket.take(slow, 1 << 50).is_err());
        let fast = Pace::new(10, Duration::from_secs(1), 1);
        assert_eq!(bucket.take(fast, 1 << 50), Err(Duration::from_millis(100)));
        assert!(bucket.take(fast, (1 << 50) + 100_000_000).is_ok());
    }

    #[test]
    fn workers_together_take_no_more_than_there_is() {
        let bucket = Bucket::default();
        let pace = Pace::new(100, Duration::from_secs(1), 100);
        let take = || (0..1000).filter(|_| bucket.take(pace, 1 << 50).is_ok()).count();
        let admitted: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(admitted, 100);
    }
}
