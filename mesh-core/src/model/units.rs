//! Quantities with their units in the type.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A span of time in whole milliseconds, at most 49 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(u32);

impl Millis {
    /// A number of milliseconds.
    pub const fn new(milliseconds: u32) -> Self {
        Self(milliseconds)
    }

    /// A number of seconds; more than 49 days are cut there.
    pub const fn seconds(seconds: u32) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The number of milliseconds.
    pub const fn milliseconds(self) -> u64 {
        self.0 as u64
    }

    /// As the standard type.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

impl From<Duration> for Millis {
    /// Rounds up to a whole millisecond, so that a short timeout never becomes none.
    fn from(duration: Duration) -> Self {
        Self(u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }
}

/// A relative share: a backend gets `weight / sum of weights`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(pub u32);

/// A probability in parts per million: 1,000,000 is always, 0 never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PerMillion(u32);

impl PerMillion {
    /// Always.
    pub const ALWAYS: Self = Self(1_000_000);
    /// Never.
    pub const NEVER: Self = Self(0);

    /// From a percentage; what is out of 0 to 100 is cut there.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=1,000,000 before the cast"
    )]
    pub fn percent(percent: f64) -> Self {
        Self((percent * 10_000.0).clamp(0.0, 1_000_000.0) as u32)
    }

    /// Whether a dice roll, uniform over the whole of `u32`, hits.
    pub const fn hits(self, dice: u32) -> bool {
        (dice as u64 * 1_000_000) >> 32 < self.0 as u64
    }

    /// The number of parts.
    pub const fn parts(self) -> u32 {
        self.0
    }
}
