//! Points in time as logs write them, in UTC.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::digits::padded;

/// `2026-11-23T00:12:08.123Z`.
pub(super) struct Timestamp(pub(super) SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut text = *b"yyyy-mm-ddThh:mm:ss.fffZ";
        let millis = since.subsec_millis().into();
        let parts = [year, month, day, hour, minute, second, millis];
        let places = [0..4, 5..7, 8..10, 11..13, 14..16, 17..19, 20..23];
        for (part, place) in parts.into_iter().zip(places) {
            padded(part, &mut text[place]);
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

/// Days since 1970-01-01 as a date of the Gregorian calendar, by counting 400-year eras that begin on 1 March.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A point in time in a format of `strftime`'s, of which [`crate::model::template::SPECIFIERS`] are known.
pub(super) fn write_formatted(out: &mut String, format: &str, time: SystemTime) -> fmt::Result {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let width: usize = rest[..digits].parse().unwrap_or(9);
        rest = &rest[digits..];
        let Some(specifier) = rest.chars().next() else { break };
        rest = &rest[specifier.len_utf8()..];
        match specifier {
            'f' => {
                let nanos = format!("{:09}", since.subsec_nanos());
                out.push_str(&nanos[..width.min(9)]);
            }
            other => write_part(out, other, since.as_secs())?,
        }
    }
    out.push_str(rest);
    Ok(())
}

fn write_part(out: &mut String, specifier: char, seconds: u64) -> fmt::Result {
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    match specifier {
        'Y' => write!(out, "{year:04}"),
        'y' => write!(out, "{:02}", year % 100),
        'm' => write!(out, "{month:02}"),
        'b' => out.write_str(MONTHS[usize::try_from(month - 1).unwrap_or_default() % 12]),
        'd' => write!(out, "{day:02}"),
        'e' => write!(out, "{day:2}"),
        'j' => write!(out, "{:03}", days - days_before(year) + 1),
        'H' => write!(out, "{hour:02}"),
        'M' => write!(out, "{minute:02}"),
        'S' => write!(out, "{second:02}"),
        's' => write!(out, "{seconds}"),
        'F' => write!(out, "{year:04}-{month:02}-{day:02}"),
        'T' => write!(out, "{hour:02}:{minute:02}:{second:02}"),
        'z' => out.write_str("+0000"),
        'Z' => out.write_str("UTC"),
        other => out.write_char(other),
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Days from 1970-01-01 to the first day of a year.
const fn days_before(year: u64) -> u64 {
    let whole = year - 1;
    whole * 365 + whole / 4 - whole / 100 + whole / 400 - 719_162
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_default_form_is_of_rfc_3339() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_392_728_023);
        assert_eq!(Timestamp(time).to_string(), "2026-11-23T00:12:08.023Z");
        assert_eq!(Timestamp(UNIX_EPOCH).to_string(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn times_are_written_as_asked() {
        let time = UNIX_EPOCH + Duration::from_millis(1_795_392_728_123);
        for (format, expected) in [
            ("%Y/%m/%dT%H:%M:%S%z %s", "2026/11/23T00:12:08+0000 1795392728"),
            ("%F %T.%3f %Z %e %b %y", "2026-11-23 00:12:08.123 UTC 23 Nov 26"),
            ("%j 100%%", "327 100%"),
        ] {
            let mut out = String::new();
            write_formatted(&mut out, format, time).unwrap();
            assert_eq!(out, expected);
        }
    }
}
