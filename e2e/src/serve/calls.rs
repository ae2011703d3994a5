//! Calls to the next services, one after the other, with the headers that applications in a mesh hand on.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, Request};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;
use tokio::time::timeout;

use super::App;
use crate::client::connect::describe;
use crate::report::CallReport;
use crate::settings::Call;

/// Headers that tie calls to one trace and one user. The mesh cannot hand these on: only the application knows
/// which of its outgoing calls belongs to which request.
const HANDED_ON: [&str; 8] =
    ["x-request-id", "traceparent", "tracestate", "b3", "end-user", "cookie", "authorization", "user-agent"];
/// Longest answer that is taken into the report, in bytes.
const MAX_ANSWER: usize = 4 << 20;

/// Calls every service that a request causes to be called.
pub(super) async fn run(app: &App, parts: &Parts) -> Vec<CallReport> {
    let headers = handed_on(&parts.headers);
    let mut reports = Vec::new();
    for call in app.settings.calls_for(parts.uri.path()) {
        reports.push(run_one(app, call, &headers).await);
    }
    reports
}

async fn run_one(app: &App, call: &Call, headers: &HeaderMap) -> CallReport {
    let (status, outcome) = match timeout(app.settings.call_timeout, send(app, call, headers)).await {
        Ok(Ok((status, answer))) => (Some(status), Ok(answer)),
        Ok(Err(error)) => (None, Err(error)),
        Err(_) => (None, Err(format!("no answer within {:?}", app.settings.call_timeout))),
    };
    let url = call.url.to_string();
    match outcome {
        Ok(answer) => CallReport { name: call.name.clone(), url, status, error: None, answer },
        Err(error) => {
            CallReport { name: call.name.clone(), url, status, error: Some(error), answer: Value::Null }
        }
    }
}

async fn send(app: &App, call: &Call, headers: &HeaderMap) -> Result<(u16, Value), String> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.uri_mut() = call.url.clone();
    *request.headers_mut() = headers.clone();
    let response = app.client.request(request).await.map_err(|error| describe(&error))?;
    let status = response.status().as_u16();
    let body =
        Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| describe(&*error))?;
    Ok((status, as_value(&body.to_bytes())))
}

/// JSON as it is, anything else as text.
fn as_value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

fn handed_on(headers: &HeaderMap) -> HeaderMap {
    let is_handed_on =
        |name: &HeaderName| HANDED_ON.contains(&name.as_str()) || name.as_str().starts_with("x-b3-");
    let kept = headers.iter().filter(|(name, _)| is_handed_on(name));
    let mut result = HeaderMap::new();
    for (name, value) in kept {
        result.append(name.clone(), value.clone());
    }
    result
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn trace_and_user_are_handed_on_and_nothing_else() {
        let names = ["x-b3-traceid", "end-user", "x-forwarded-client-cert", "x-echo-delay", "host"];
        let seen = names.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
        let mut kept: Vec<_> =
            handed_on(&HeaderMap::from_iter(seen)).keys().map(ToString::to_string).collect();
        kept.sort();
        assert_eq!(kept, ["end-user", "x-b3-traceid"]);
    }
}
