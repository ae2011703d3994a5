//! Slow start: a new endpoint gets a share that grows (Envoy's `slow_start_config`).

use super::EndpointState;
use crate::model::WarmUp;

/// Envoy counts an endpoint as this old at least, in milliseconds.
const YOUNGEST: u64 = 1_000;

/// The policy at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Warming {
    pub(super) policy: WarmUp,
    /// See [`crate::guard::moment::millis`].
    pub(super) now: u64,
}

impl Warming {
    /// The part of an endpoint's weight that counts now: `max(minimum, (age / duration) ^ (1 / aggression))`.
    pub(super) fn factor(&self, state: &EndpointState) -> f64 {
        let age = self.now.saturating_sub(state.since());
        let duration = self.policy.duration.milliseconds();
        if age >= duration {
            return 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "spans of at most 49 days")]
        let part = age.max(YOUNGEST) as f64 / duration as f64;
        part.min(1.0)
            .powf(1.0 / self.policy.aggression.max(f64::MIN_POSITIVE))
            .max(self.policy.minimum)
            .min(1.0)
    }
}
