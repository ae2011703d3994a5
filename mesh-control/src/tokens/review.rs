//! Tokens checked by a cluster's API server (TokenReview).
//!
//! Nothing is remembered between checks: a token whose pod or account is gone is refused from that moment on.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Request;
use kube::Client;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{AUDIENCE, Caller, TokenError};

/// For one check, waiting for a place included.
const DEADLINE: Duration = Duration::from_secs(10);
/// Checks at a time: whoever floods us with tokens does not flood the API server.
const AT_ONCE: usize = 32;

/// Asks an API server.
pub struct Reviewer {
    client: Client,
    places: Semaphore,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Review {
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    authenticated: bool,
    audiences: Vec<String>,
    user: User,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct User {
    username: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl Reviewer {
    /// A reviewer that asks through `client`, which needs the right to create TokenReviews.
    pub fn new(client: Client) -> Self {
        Self { client, places: Semaphore::new(AT_ONCE) }
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        let status = timeout(DEADLINE, self.ask(token)).await.map_err(|_| TokenError::Late)??;
        caller(status)
    }

    async fn ask(&self, token: &str) -> Result<Status, TokenError> {
        let _place = self.places.acquire().await.map_err(|_| TokenError::Late)?;
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        });
        let request = Request::post("/apis/authentication.k8s.io/v1/tokenreviews")
            .header("content-type", "application/json")
            .body(review.to_string().into_bytes())
            .expect("path and headers are constants");
        // Not `request`: that logs what it cannot read, and the answer repeats the token.
        let text = self.client.request_text(request).await;
        let text = text.map_err(|error| TokenError::Review(Box::new(error)))?;
        let review: Review = serde_json::from_str(&text)
            .map_err(|_| TokenError::Refused("the API server's answer is not a TokenReview".to_owned()))?;
        Ok(review.status)
    }
}

/// Who it is, if it is a pod with a token for us. A server that knows no audiences would accept any token, so it must name ours.
fn caller(status: Status) -> Result<Caller, TokenError> {
    let refuse = |why: &str| Err(TokenError::Refused(why.to_owned()));
    if !status.authenticated {
        return Err(TokenError::Refused(status.error));
    }
    if !status.audiences.iter().any(|audience| audience == AUDIENCE) {
        return refuse("it is not for us");
    }
    let parts: Vec<_> = status.user.username.split(':').collect();
    let ["system", "serviceaccount", namespace, account] = parts[..] else {
        return refuse("it is not a service account's");
    };
    let extra = |name: &str| {
        let values = status.user.extra.get(&format!("authentication.kubernetes.io/{name}"))?;
        values.first().filter(|value| !value.is_empty()).cloned()
    };
    let (Some(pod), Some(pod_uid)) = (extra("pod-name"), extra("pod-uid")) else {
        return refuse("it is not bound to a pod");
    };
    Ok(Caller { namespace: namespace.to_owned(), service_account: account.to_owned(), pod, pod_uid })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn status(username: &str, audience: &str, pod: &Value) -> Status {
        serde_json::from_value(json!({
            "authenticated": true,
            "audiences": [audience],
            "user": {"username": username, "extra": pod},
        }))
        .unwrap()
    }

    /// CA-02.
    #[test]
    fn only_a_pod_with_a_token_for_us_is_somebody() {
        let bound = json!({
            "authentication.kubernetes.io/pod-name": ["web-1"],
            "authentication.kubernetes.io/pod-uid": ["u-1"],
        });
        let web = caller(status("system:serviceaccount:default:web", AUDIENCE, &bound)).unwrap();
        assert_eq!((web.namespace.as_str(), web.service_account.as_str()), ("default", "web"));
        assert_eq!((web.pod.as_str(), web.pod_uid.as_str()), ("web-1", "u-1"));
        for refused in [
            status("system:serviceaccount:default:web", "https://kubernetes.default.svc", &bound),
            status("system:serviceaccount:a:b:c", AUDIENCE, &bound),
            status("system:node:n1", AUDIENCE, &bound),
            status("system:serviceaccount:default:web", AUDIENCE, &json!({})),
            Status { error: "expired".to_owned(), ..Status::default() },
        ] {
            assert!(matches!(caller(refused), Err(TokenError::Refused(_))));
        }
    }
}
