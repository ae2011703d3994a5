//! Envoy's authorization service (envoy.service.auth.v3), as far as a scenario needs it: `?status=401` in the path of a
//! request has it denied so, with the name of this pod; all else may pass, with that name in `x-echo-pod`.
//!
//! The messages are written by hand: names do not travel, and what is left out is not read.

use std::pin::Pin;

use tonic::Status;
use tonic::server::UnaryService;

/// Path of the method.
pub(crate) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
/// gRPC's `PERMISSION_DENIED`.
const PERMISSION_DENIED: i32 = 7;

/// What is asked about.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attributes {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<Request>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(string, tag = "4")]
    principal: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Request {
    #[prost(message, optional, tag = "2")]
    http: Option<Http>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Http {
    #[prost(string, tag = "2")]
    method: String,
    #[prost(string, tag = "4")]
    path: String,
}

/// Whether it may pass.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<Code>,
    #[prost(message, optional, tag = "2")]
    denied: Option<Denied>,
    #[prost(message, optional, tag = "3")]
    allowed: Option<Allowed>,
}

/// A gRPC code in one place, an HTTP status in the other: both have their number first.
#[derive(Clone, PartialEq, prost::Message)]
struct Code {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Denied {
    #[prost(message, optional, tag = "1")]
    status: Option<Code>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Allowed {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HeaderOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Answers checks in the name of a pod.
pub(crate) struct Authorizer {
    pub(crate) pod: String,
}

impl UnaryService<CheckRequest> for Authorizer {
    type Response = CheckResponse;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<CheckResponse>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let response = self.check(request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(response)) })
    }
}

impl Authorizer {
    fn check(&self, request: CheckRequest) -> CheckResponse {
        let attributes = request.attributes.unwrap_or_default();
        let caller = attributes.source.unwrap_or_default().principal;
        let http = attributes.request.unwrap_or_default().http.unwrap_or_default();
        let header = Header { key: "x-echo-pod".to_owned(), value: self.pod.clone() };
        let headers = vec![HeaderOption { header: Some(header) }];
        let code = |code| Some(Code { code });
        match asked_status(&http.path) {
            None => CheckResponse { status: code(0), allowed: Some(Allowed { headers }), denied: None },
            Some(status) => {
                let body = format!("{} denies {} {} of {caller}\n", self.pod, http.method, http.path);
                let denied = Denied { status: code(status), headers, body };
                CheckResponse { status: code(PERMISSION_DENIED), denied: Some(denied), allowed: None }
            }
        }
    }
}

/// `status=401` in the query.
fn asked_status(path: &str) -> Option<i32> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("status="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_denied_as_its_path_says() {
        let check = |path: &str| {
            let http = Some(Http { method: "GET".to_owned(), path: path.to_owned() });
            let attributes = Some(Attributes { source: None, request: Some(Request { http }) });
            Authorizer { pod: "door-1".to_owned() }.check(CheckRequest { attributes })
        };
        assert!(check("/a?b").allowed.is_some());
        assert_eq!(check("/a?b&status=401").denied.unwrap().status.unwrap().code, 401);
    }
}
