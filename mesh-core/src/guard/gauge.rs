//! Counters of what is under way, with permits that give back what they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many of something are under way. On a cache line of its own: every worker writes it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Gauge(AtomicU32);

impl Gauge {
    /// How many are under way now.
    pub fn active(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes one, unless that would exceed `limit`.
    fn take(self: &Arc<Self>, limit: Option<u32>) -> Option<Held> {
        match limit {
            None => {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            Some(limit) => {
                let below = |active| (active < limit).then(|| active + 1);
                self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
            }
        }
        Some(Held(Arc::clone(self)))
    }
}

#[derive(Debug)]
struct Held(Arc<Gauge>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

macro_rules! permits {
    ($($(#[$doc:meta])* $name:ident,)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(#[expect(dead_code, reason = "held for its drop")] Held);

        impl $name {
            /// Takes one of `gauge`, unless that would exceed `limit`.
            pub fn take(gauge: &Arc<Gauge>, limit: Option<u32>) -> Option<Self> {
                gauge.take(limit).map(Self)
            }
        }
    )+};
}

permits! {
    /// One request under way; drop it when the response has ended.
    RequestPermit,
    /// One retry under way; drop it when its attempt has ended.
    RetryPermit,
    /// One open connection.
    ConnectionPermit,
    /// One request waiting for a connection.
    PendingPermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_makes_room_for_the_next() {
        let gauge = Arc::new(Gauge::default());
        let first = RequestPermit::take(&gauge, Some(1)).unwrap();
        assert!(RequestPermit::take(&gauge, Some(1)).is_none());
        drop(first);
        assert!(RequestPermit::take(&gauge, Some(1)).is_some());
        assert_eq!(gauge.active(), 0);
    }
}
