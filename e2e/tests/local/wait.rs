//! Waiting for conditions, never for time to pass: poll until it holds or a deadline is over.

use std::time::{Duration, Instant};

/// Pause between two looks at a condition that nobody announces.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again until `check` succeeds; after the deadline its last error counts.
pub(crate) fn within<T>(
    deadline: Duration,
    mut check: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match check() {
            Err(_) if Instant::now() < end => std::thread::sleep(PAUSE),
            Err(error) => return Err(error.context(format!("not so within {deadline:?}"))),
            Ok(value) => return Ok(value),
        }
    }
}
