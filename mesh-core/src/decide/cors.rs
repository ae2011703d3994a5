//! Cross-origin resource sharing (Fetch standard §3.2; Istio's `corsPolicy`).
//!
//! A preflight from an origin that may call is answered here; every other request goes on, and the browser refuses the
//! answer where no header allows it.

use bytes::Bytes;

use super::route::FoundRule;
use super::{Answer, Reason};
use crate::message::{Headers, RequestHead};
use crate::snapshot::rule::CompiledCors;

/// The answer to a preflight that the rule's policy allows.
pub(super) fn preflight(head: &RequestHead, found: &FoundRule<'_>) -> Option<Box<Answer>> {
    let policy = found.matched.rule.cors.as_ref()?;
    let asks = head.method.as_str() == "OPTIONS" && head.headers.contains("access-control-request-method");
    let origin = allowed_origin(policy, head).filter(|_| asks)?;
    let mut answer = Answer::new(200, Bytes::new(), Reason::Preflight).on(found);
    let headers = &mut answer.headers;
    write_origin(policy, &origin, headers);
    let lists = [
        ("access-control-allow-methods", &policy.methods),
        ("access-control-allow-headers", &policy.headers),
        ("access-control-max-age", &policy.max_age),
    ];
    for (name, value) in lists {
        if let Some(value) = value {
            headers.set(name, value.clone());
        }
    }
    Some(Box::new(answer))
}

/// The request's origin, when the policy lets it call.
pub(super) fn allowed_origin(policy: &CompiledCors, head: &RequestHead) -> Option<Bytes> {
    let origin = head.headers.iter().find(|field| field.is("origin"))?;
    policy.allows(&origin.value).then(|| origin.value.clone())
}

/// Writes the headers of an actual response.
pub(super) fn write(policy: &CompiledCors, origin: &Bytes, headers: &mut Headers) {
    write_origin(policy, origin, headers);
    if let Some(expose) = &policy.expose {
        headers.set("access-control-expose-headers", expose.clone());
    }
}

fn write_origin(policy: &CompiledCors, origin: &Bytes, headers: &mut Headers) {
    headers.set("access-control-allow-origin", origin.clone());
    if policy.credentials {
        headers.set("access-control-allow-credentials", "true");
    }
}
