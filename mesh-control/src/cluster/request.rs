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
    /// The API server says no, with a status and why.
    #[error("the API server refuses it: {1}")]
    Refused(u16, String),
    /// The API server cannot be reached.
    #[error("the API server cannot be reached")]
    Api(#[source] Box<Error>),
    /// The answer is not JSON.
    #[error("the API server's answer cannot be read")]
    Unreadable,
}

impl RequestError {
    /// The status that the API server answered with, if it did.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(code, _) => Some(*code),
            _ => None,
        }
    }
}

impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => Self::Refused(status.code, status.message.clone()),
            error => Self::Api(Box::new(error)),
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
    /// The same for what users bring to `mesh apply`.
    Put,
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
/// The same for users.
const USER: &str = "mesh-apply";

pub(super) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, RequestError> {
    let manager = match method {
        Method::Install => INSTALLER,
        Method::Put => USER,
        _ => MANAGER,
    };
    let apply = format!("{path}?fieldManager={manager}&force=true");
    let (verb, path, content) = match method {
        Method::Get => ("GET", path, "application/json"),
        Method::Create => ("POST", path, "application/json"),
        Method::Replace => ("PUT", path, "application/json"),
        Method::Delete => ("DELETE", path, "application/json"),
        Method::Apply | Method::Install | Method::Put => {
            ("PATCH", apply.as_str(), "application/apply-patch+yaml")
        }
        Method::Merge => ("PATCH", path, "application/merge-patch+json"),
        Method::Strategic => ("PATCH", path, "application/strategic-merge-patch+json"),
    };
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = http::Request::builder().method(verb).uri(path).header("content-type", content).body(bytes);
    let request = request.map_err(Error::HttpError)?;
    let text = timeout(DEADLINE, client.request_text(request)).await.map_err(|_| RequestError::Late)?;
    let text = text?;
    serde_json::from_str(&text).map_err(|_| RequestError::Unreadable)
}
