//! The field that every response needs: whoever passes one on without it adds it (RFC 9110 §6.6.1).

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::message::Headers;

/// Seconds since 1970, and the same written out.
type Written = (u64, Bytes);

thread_local! {
    static LAST: RefCell<Written> = const { RefCell::new((0, Bytes::new())) };
}

/// Adds the time at which the response came by, unless it says its own.
pub(super) fn add_date(headers: &mut Headers) {
    if !headers.contains("date") {
        headers.append("date", now());
    }
}

/// Written once a second.
fn now() -> Bytes {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    LAST.with_borrow_mut(|(last, written)| {
        if *last != second || written.is_empty() {
            *written = httpdate::fmt_http_date(now).into();
            *last = second;
        }
        written.clone()
    })
}
