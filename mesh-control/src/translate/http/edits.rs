//! Edits of headers, paths and bodies.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_core::model::{HeaderEdits, Rewrite};

use crate::api::networking::{HeaderOperations, Headers, HttpBody, HttpRewrite};

/// Edits of the request and of the response.
pub(super) fn of(headers: Option<&Headers>) -> (HeaderEdits, HeaderEdits) {
    let Some(headers) = headers else { return Default::default() };
    let mut response = operations(&headers.response);
    response.authority = None;
    (operations(&headers.request), response)
}

/// `:authority` and `Host` among what is set or added are the authority to send; other names with a colon are left out
/// (semantics.md 10).
fn operations(operations: &HeaderOperations) -> HeaderEdits {
    let is_authority = |name: &str| name.eq_ignore_ascii_case("host") || name == ":authority";
    let written = |pairs: &crate::api::meta::StringMap| -> Vec<(String, String)> {
        let plain = pairs.iter().filter(|(name, _)| !name.starts_with(':') && !is_authority(name));
        plain.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let mut authorities = operations.set.iter().chain(&operations.add).filter(|(name, _)| is_authority(name));
    let mut edits = HeaderEdits {
        remove: operations.remove.iter().filter(|name| !name.starts_with(':')).cloned().collect(),
        set: written(&operations.set),
        add: written(&operations.add),
        authority: authorities.next().map(|(_, value)| value.clone()),
    };
    edits.remove.sort();
    edits
}

/// A rewrite of path and authority.
pub(super) fn rewrite(rewrite: &HttpRewrite) -> Rewrite {
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let regex =
        rewrite.uri_regex_rewrite.as_ref().map(|regex| (regex.pattern.clone(), regex.rewrite.clone()));
    Rewrite { path: given(&rewrite.uri), authority: given(&rewrite.authority), regex, ..Rewrite::default() }
}

/// A fixed body; one of bytes that are not text loses what is not.
pub(super) fn body(body: &HttpBody) -> String {
    match (&body.string, &body.bytes) {
        (Some(text), _) => text.clone(),
        (None, Some(encoded)) => {
            String::from_utf8_lossy(&STANDARD.decode(encoded.trim()).unwrap_or_default()).into_owned()
        }
        (None, None) => String::new(),
    }
}
