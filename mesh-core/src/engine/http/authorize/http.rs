//! The check as an HTTP request: what it carries, and what its answer means.
//!
//! Envoy's rules: 200 allows, 5xx is an error, everything else denies and is what the client gets. As a subrequest in the
//! manner of ingress-nginx: 2xx allows, 401 and 403 deny, everything else is an error.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};

use super::exchange::Said;
use super::{Check, Edits, Verdict, may_travel};
use crate::message::{Headers, Method, RequestHead, Scheme};
use crate::model::{HttpCheck, Subrequest};
use crate::snapshot::authorizer::Names;

/// Headers of a denying answer that pass whatever is configured.
const ALWAYS_ON_DENY: [&[u8]; 2] = [b"www-authenticate", b"location"];

impl Check<'_> {
    pub(super) async fn over_http(&self, check: &HttpCheck) -> Result<Verdict, Box<str>> {
        let head = match &check.subrequest {
            Some(subrequest) => self.subrequest(subrequest).ok_or("auth-method is not a method")?,
            None => self.same_request(check),
        };
        let body = self.shown.as_ref().map(|shown| shown.bytes.clone()).unwrap_or_default();
        let said = self.exchange(&head, body).await?;
        match (&check.subrequest, said.head.status) {
            (None, 200) | (Some(_), 200..=299) => Ok(Verdict::Allow(self.allowed(&said))),
            (None, 500..) | (Some(_), 0..=400 | 402 | 404..) => {
                Err(format!("it answers {}", said.head.status).into())
            }
            (Some(subrequest), 401) if subrequest.sign_in.is_some() => Ok(self.sign_in(subrequest)),
            (_, status) => Ok(self.denied(status, said)),
        }
    }

    /// Method, path and host of the request, with the headers that are configured.
    fn same_request(&self, check: &HttpCheck) -> RequestHead {
        let wanted = &self.authorizer.request_headers;
        let mut headers = Headers::default();
        for field in self.head.headers.iter() {
            let passes = field.is("authorization") || wanted.has(&field.name);
            if passes && may_travel(&field.name) {
                headers.append(field.name.clone(), field.value.clone());
            }
        }
        for (name, value) in &check.added_headers {
            headers.set(name.clone(), value.clone());
        }
        if let Some(shown) = &self.shown {
            headers.set("x-envoy-auth-partial-body", if shown.partial { "true" } else { "false" });
        }
        let mut path = BytesMut::from(check.path_prefix.as_bytes());
        path.put_slice(&self.head.path);
        RequestHead { headers, path: path.freeze(), ..self.bare() }
    }

    /// A request of its own, with all headers of the one in question.
    fn subrequest(&self, subrequest: &Subrequest) -> Option<RequestHead> {
        let mut headers = self.head.headers.clone();
        headers.retain(|field| may_travel(&field.name));
        headers.set("x-original-url", self.url());
        headers.set("x-original-method", self.head.method.as_str().to_owned());
        headers.set("x-auth-request-redirect", self.target());
        headers.set("x-real-ip", self.downstream.peer.address.ip().to_string());
        let (path, query) = match subrequest.path.split_once('?') {
            Some((path, query)) => (path, Some(Bytes::copy_from_slice(query.as_bytes()))),
            None => (subrequest.path.as_str(), None),
        };
        let method = Method::parse(Bytes::copy_from_slice(subrequest.method.as_bytes()))?;
        let authority = Bytes::copy_from_slice(subrequest.authority.as_bytes());
        let path = Bytes::copy_from_slice(path.as_bytes());
        Some(RequestHead { method, authority, path, query, headers, ..self.bare() })
    }

    fn bare(&self) -> RequestHead {
        RequestHead {
            method: self.head.method.clone(),
            scheme: Scheme::Http,
            host: self.head.host.clone(),
            authority: self.head.authority.clone(),
            path: self.head.path.clone(),
            query: self.head.query.clone(),
            version: self.http_version(),
            upgrade: None,
            headers: Headers::default(),
        }
    }

    fn allowed(&self, said: &Said) -> Edits {
        let authorizer = self.authorizer;
        let set = chosen(&said.head.headers, &authorizer.upstream_on_allow);
        let downstream = chosen(&said.head.headers, &authorizer.downstream_on_allow);
        Edits { set, downstream, ..Edits::default() }
    }

    fn denied(&self, status: u16, said: Said) -> Verdict {
        let wanted = &self.authorizer.downstream_on_deny;
        let mut headers = said.head.headers;
        headers.retain(|field| {
            let always = ALWAYS_ON_DENY.iter().any(|name| field.name.eq_ignore_ascii_case(name));
            may_travel(&field.name) && (wanted.is_empty() || always || wanted.has(&field.name))
        });
        Verdict::Deny { status, headers, body: said.body }
    }

    /// Sends the client to sign in, and back to what it wanted.
    fn sign_in(&self, subrequest: &Subrequest) -> Verdict {
        let page = subrequest.sign_in.as_deref().unwrap_or_default();
        let mut location = page.to_owned();
        if !page.contains("rd=") {
            location.push(if page.contains('?') { '&' } else { '?' });
            location.push_str("rd=");
            escape(&self.url(), &mut location);
        }
        let mut headers = Headers::default();
        headers.append("location", location);
        Verdict::Deny { status: 302, headers, body: Bytes::new() }
    }

    fn target(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.head.path).into_owned();
        if let Some(query) = &self.head.query {
            let _ = write!(text, "?{}", String::from_utf8_lossy(query));
        }
        text
    }

    fn url(&self) -> String {
        let authority = String::from_utf8_lossy(&self.head.authority);
        format!("{}://{authority}{}", self.head.scheme.as_str(), self.target())
    }
}

fn chosen(headers: &Headers, names: &Names) -> Headers {
    let mut chosen = headers.clone();
    chosen.retain(|field| names.has(&field.name) && may_travel(&field.name));
    chosen
}

/// Everything but unreserved characters becomes `%XX` (RFC 3986 §2.3).
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
