//! One request to the API server, with a deadline and without its answer in the log.

use std::time::Duration;

use kube::{Client, Error};
use serde_json::Value;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(15);

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No answer in time.
    #[error("the API server has not answered in 15 s")]
    Late,
    /// The API server says no, or cannot be reached.
    #[error("the API server refuses or cannot be reached")]
    Api(#[source] Box<Error>),
    /// The answer is not JSON.
    #[error("the API server's answer cannot be read")]
    Unreadable,
}

impl RequestError {
    /// The status that the API server answered with, if it did.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(error) => match &**error {
                Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

/// How a body is meant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Method {
    Get,
    Create,
    Replace,
    /// Server-side apply; what others own of the object stays.
    Apply,
    /// The same for what an installation owns.
    Install,
    /// With everything that depends on it, in the background.
    Delete,
    /// RFC 7386.
    Merge,
    /// Lists whose items have names are merged by these; kinds of Kubernetes only.
    Strategic,
}

/// The name under which we own fields and write events.
pub(super) const MANAGER: &str = "mesh-control";
/// The same for those who install.
const INSTALLER: &str = "mesh-install";

pub(super) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, RequestError> {
    let manager = if matches!(method, Method::Install) { INSTALLER } else { MANAGER };
    let apply = format!("{path}?fieldManager={manager}&force=true");
    let (verb, path, content) = match method {
        Method::Get => ("GET", path, "application/json"),
        Method::Create => ("POST", path, "application/json"),
        Method::Replace => ("PUT", path, "application/json"),
        Method::Delete => ("DELETE", path, "application/json"),
        Method::Apply | Method::Install => ("PATCH", apply.as_str(), "application/apply-patch+yaml"),
        Method::Merge => ("PATCH", path, "application/merge-patch+json"),
        Method::Strategic => ("PATCH", path, "application/strategic-merge-patch+json"),
    };
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = http::Request::builder().method(verb).uri(path).header("content-type", content).body(bytes);
    let request = request.map_err(|error| RequestError::Api(Box::new(Error::HttpError(error))))?;
    let text = timeout(DEADLINE, client.request_text(request)).await.map_err(|_| RequestError::Late)?;
    let text = text.map_err(|error| RequestError::Api(Box::new(error)))?;
    serde_json::from_str(&text).map_err(|_| RequestError::Unreadable)
}
