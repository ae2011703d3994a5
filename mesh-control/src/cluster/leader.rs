//! Of several replicas one leads: whoever holds a Lease (coordination.k8s.io/v1).
//!
//! Clocks of replicas are not compared: a lease counts as abandoned when we have seen it unchanged for its whole duration.
//! The API server refuses a write to a version that is not the latest, so of two that take it one wins. A leader that cannot
//! renew in time stops leading before anyone else may begin.

use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::request::{Method, RequestError, send};

/// The Lease's name.
pub const LEASE: &str = "mesh-control";

/// How the lease is held.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Unchanged for this long it is abandoned; whole seconds.
    pub duration: Duration,
    /// A leader gives up when it could not renew for this long; less than `duration`.
    pub give_up: Duration,
    /// Between looks.
    pub retry: Duration,
}

impl Default for Terms {
    /// Kubernetes' own components' defaults: 15 s, 10 s, 2 s.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            give_up: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Takes part in the election as `identity` until `stop`; the receiver says whether we lead.
pub fn run(
    client: Client,
    namespace: &str,
    identity: String,
    terms: Terms,
    stop: CancellationToken,
) -> watch::Receiver<bool> {
    let (leads, receiver) = watch::channel(false);
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let candidate = Candidate { client, leases, identity, terms, leads, seen: None };
    tokio::spawn(candidate.run(stop));
    receiver
}

struct Candidate {
    client: Client,
    leases: String,
    identity: String,
    terms: Terms,
    leads: watch::Sender<bool>,
    /// The version of another's lease, and since when we see it.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    async fn run(mut self, stop: CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            let started = Instant::now();
            // A renewal that takes longer than this comes too late to count.
            match timeout(self.terms.give_up, self.look()).await {
                Ok(Ok(true)) => {
                    renewed = started;
                    self.lead(true);
                }
                Ok(Ok(false)) => self.lead(false),
                Ok(Err(error)) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "the lease cannot be had")
                }
                Err(_) => {}
            }
            if renewed.elapsed() + self.terms.retry >= self.terms.give_up {
                self.lead(false);
            }
            tokio::select! {
                () = tokio::time::sleep(self.terms.retry) => {}
                () = stop.cancelled() => return self.leave().await,
                () = self.leads.closed() => return,
            }
        }
    }

    fn lead(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|before| std::mem::replace(before, leads) != leads);
        if changed {
            tracing::info!(leads, identity = self.identity, "leadership has changed");
        }
    }

    /// Renews our lease, takes an abandoned one, or leaves another's alone. True if it is ours.
    async fn look(&mut self) -> Result<bool, RequestError> {
        let path = format!("{}/{LEASE}", self.leases);
        let lease = match send(&self.client, Method::Get, &path, None).await {
            Ok(lease) => lease,
            Err(error) if error.code() == Some(404) => {
                return won(send(
                    &self.client,
                    Method::Create,
                    &self.leases,
                    Some(&self.fresh(&Value::Null)),
                )
                .await);
            }
            Err(error) => return Err(error),
        };
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder != self.identity && !holder.is_empty() && !self.is_abandoned(&lease) {
            return Ok(false);
        }
        won(send(&self.client, Method::Replace, &path, Some(&self.fresh(&lease))).await)
    }

    fn is_abandoned(&mut self, lease: &Value) -> bool {
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        match &self.seen {
            Some((seen, since)) if seen == version => since.elapsed() >= self.terms.duration,
            _ => {
                self.seen = Some((version.to_owned(), Instant::now()));
                false
            }
        }
    }

    /// The lease as ours; with the version of the one it takes the place of.
    fn fresh(&self, before: &Value) -> Value {
        let now = now();
        let ours = before["spec"]["holderIdentity"] == self.identity.as_str();
        let acquired = if ours { &before["spec"]["acquireTime"] } else { &now };
        let transitions = before["spec"]["leaseTransitions"].as_u64().unwrap_or_default();
        let mut metadata = json!({"name": LEASE});
        if let Some(version) = before["metadata"].get("resourceVersion") {
            metadata["resourceVersion"] = version.clone();
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.terms.duration.as_secs(),
                "acquireTime": acquired,
                "renewTime": now,
                "leaseTransitions": if ours || before.is_null() { transitions } else { transitions + 1 },
            },
        })
    }

    /// A leader that ends says so: the next need not wait for the lease to run out.
    async fn leave(self) {
        if !*self.leads.borrow() {
            return;
        }
        self.lead(false);
        let path = format!("{}/{LEASE}", self.leases);
        let Ok(mut lease) = send(&self.client, Method::Get, &path, None).await else { return };
        if lease["spec"]["holderIdentity"] == self.identity.as_str() {
            lease["spec"]["holderIdentity"] = "".into();
            let _ = send(&self.client, Method::Replace, &path, Some(&lease)).await;
        }
    }
}

/// Somebody else was faster: not an error.
fn won(answer: Result<Value, RequestError>) -> Result<bool, RequestError> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(409) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `MicroTime` of the Kubernetes API.
fn now() -> Value {
    let now = OffsetDateTime::now_utc();
    let (date, (hour, minute, second, micro)) = (now.date(), now.time().as_hms_micro());
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z").into()
}
