//! Points in time small enough for an atomic.

use std::sync::OnceLock;
use std::time::Instant;

/// Leaves room for instants before the first one seen.
const MIDDLE: u64 = 1 << 40;
/// The same in nanoseconds: 73 years.
const MIDDLE_NANOS: u64 = 1 << 61;

static ORIGIN: OnceLock<Instant> = OnceLock::new();

/// Milliseconds since a point that is the same for the whole process and has no meaning of its own; never zero, so that
/// zero can stand for "never".
///
/// The first instant seen becomes the middle of the scale. Only differences are ever used.
pub fn millis(now: Instant) -> u64 {
    let origin = *ORIGIN.get_or_init(|| now);
    let whole = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(MIDDLE);
    match now.checked_duration_since(origin) {
        Some(after) => MIDDLE.saturating_add(whole(after)),
        None => MIDDLE.saturating_sub(whole(origin - now)).max(1),
    }
}

/// Nanoseconds on the same kind of scale, for what is too fast for [`millis`].
pub fn nanos(now: Instant) -> u64 {
    let origin = *ORIGIN.get_or_init(|| now);
    let whole = |span: std::time::Duration| u64::try_from(span.as_nanos()).unwrap_or(MIDDLE_NANOS);
    match now.checked_duration_since(origin) {
        Some(after) => MIDDLE_NANOS.saturating_add(whole(after)),
        None => MIDDLE_NANOS.saturating_sub(whole(origin - now)).max(1),
    }
}
