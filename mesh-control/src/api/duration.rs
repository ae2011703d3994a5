//! Durations as proto-JSON and Go write them: `10s`, `1.5s`, `100ms`, `1h30m`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time, never negative, exact to the nanosecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(std::time::Duration);

impl Duration {
    /// From the standard type.
    pub const fn new(duration: std::time::Duration) -> Self {
        Self(duration)
    }

    /// As the standard type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether it is `0s`, which some fields read as "off".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        nanoseconds(text)
            .map(|n| Self(std::time::Duration::from_nanos(n)))
            .ok_or_else(|| InvalidDuration::of(text))
    }
}

/// Sums `number unit` pairs; `None` for anything else, and beyond `u64` nanoseconds (584 years).
fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut sum = 0u64;
    while !rest.is_empty() || text.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        sum = sum.checked_add(scale(number, unit_nanoseconds(unit)?)?)?;
        rest = after;
    }
    Some(sum)
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `number` times `unit`, in integers so that `0.1s` is exact; digits below a nanosecond are cut.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    let mut sum = whole.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.bytes() {
        place /= 10;
        sum = sum.checked_add(u64::from(digit.checked_sub(b'0').filter(|d| *d <= 9)?).checked_mul(place)?)?;
    }
    Some(sum)
}

impl fmt::Display for Duration {
    /// Proto-JSON's canonical form: seconds with as many decimals as needed, `1.5s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanoseconds) = (self.0.as_secs(), self.0.subsec_nanos());
        if nanoseconds == 0 {
            return write!(f, "{seconds}s");
        }
        let fraction = format!("{nanoseconds:09}");
        write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DurationVisitor)
    }
}

/// Numbers are refused with a word on the unit, not with the advice to put them in quotes.
struct DurationVisitor;

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration, such as 1.5s or 100ms")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        text.parse().map_err(E::custom)
    }
}

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration; write a number and a unit (ns, us, ms, s, m, h), such as 1.5s or 100ms")]
pub struct InvalidDuration(String);

impl InvalidDuration {
    fn of(text: &str) -> Self {
        Self(text.chars().take(40).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_exactly() {
        for (text, nanoseconds) in [
            ("10s", 10_000_000_000),
            ("1.5s", 1_500_000_000),
            ("100ms", 100_000_000),
            ("0.1s", 100_000_000),
            ("1h30m", 5_400_000_000_000),
            ("0s", 0),
            ("0", 0),
            (".5s", 500_000_000),
            ("0.000000001s", 1),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap().get().as_nanos(), nanoseconds, "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "10", "s", "-1s", "1 s", "1.2.3s", "ten", "1d", "99999999999h", ".s", "5S"] {
            assert!(text.parse::<Duration>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_duration_survives_writing_and_reading(nanoseconds: u64) {
            let duration = Duration::new(std::time::Duration::from_nanos(nanoseconds));
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<Duration>();
        }
    }
}
