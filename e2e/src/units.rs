//! Durations as people write them (`200ms`, `2s`, `1m`), for flags and queries alike.

use std::time::Duration;

/// Reads `200ms`, `1.5s`, `2m` or a plain number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?} in {text:?}: use us, ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("no number in {text:?}: write it like 200ms"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| format!("{text:?}: {error}"))
}

/// Reads a share between 0 and 1.
pub(crate) fn parse_share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("{text:?} is not a share between 0 and 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        assert!(parse_duration("3 days").is_err());
        assert!(parse_duration("ms").is_err());
    }

    #[test]
    fn shares_stay_within_bounds() {
        assert_eq!(parse_share("0.3"), Ok(0.3));
        assert!(parse_share("1.1").is_err());
        assert!(parse_share("NaN").is_err());
    }
}
