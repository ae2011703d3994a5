//! The webhooks' trust anchor: `caBundle` in our own two webhook configurations.
//!
//! The API server asks nobody whose certificate it cannot check, so without it no pod is injected. Each configuration is
//! watched by its name: whatever takes the bundle away (a hand, a tool that applies the manifest) is answered at once. Only the
//! bundle is written, only where it differs, and never to a version that has changed since; what others set stays.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use kube::Client;
use kube::api::{Request, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::request::{Method, RequestError, send};
use crate::serve::Plane;
use crate::source::kubernetes::Backoff;

/// Collection and name of each configuration, as the chart installs them.
const CONFIGURATIONS: [(&str, &str); 2] = [
    ("mutatingwebhookconfigurations", "mesh-injection"),
    ("validatingwebhookconfigurations", "mesh-validation"),
];
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
/// The server ends a watch after this long, in seconds; a new one tells the present state again.
const WATCH: u32 = 290;
/// The version from which a watch tells first what there is, as the API server has it in memory. With bookmarks besides, newer
/// API servers refuse it on an etcd older than 3.4.25.
const ANY: &str = "0";
/// For the head of a watch's answer, and for its end.
const DEADLINE: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 15);

/// Keeps both configurations while we lead, until `stop`.
pub async fn keep(client: Client, plane: Arc<Plane>, leads: watch::Receiver<bool>, stop: CancellationToken) {
    for (plural, name) in CONFIGURATIONS {
        let keeper = Keeper { client: client.clone(), plane: Arc::clone(&plane), plural, name };
        tokio::spawn(keeper.run(leads.clone(), stop.clone()));
    }
}

/// Why a configuration is not followed just now.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it cannot be watched")]
    Watch(#[from] kube::Error),
    #[error("the API server has not answered in time")]
    Late,
    #[error("its caBundle cannot be written")]
    Write(#[from] RequestError),
}

/// Of one configuration.
struct Keeper {
    client: Client,
    plane: Arc<Plane>,
    plural: &'static str,
    name: &'static str,
}

impl Keeper {
    async fn run(self, mut leads: watch::Receiver<bool>, stop: CancellationToken) {
        let (mut backoff, mut standings) = (Backoff::default(), self.plane.standings());
        loop {
            let leading = *leads.borrow_and_update();
            standings.mark_unchanged();
            let kept = async {
                if !leading {
                    return std::future::pending().await;
                }
                if let Err(error) = self.follow(&mut backoff).await {
                    self.warn(&error);
                    backoff.wait().await;
                }
            };
            tokio::select! {
                () = kept => {}
                // A new watch begins with what there is, and is held against the new trust anchors.
                _ = standings.changed() => {}
                changed = leads.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    fn warn(&self, error: &Trouble) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(name = self.name, error, "a webhook configuration cannot be kept; trying again");
    }

    /// Watches until the server ends the watch. It begins with what there is.
    async fn follow(&self, backoff: &mut Backoff) -> Result<(), Trouble> {
        let only = WatchParams::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(WATCH)
            .disable_bookmarks();
        let request = Request::new(format!("{GROUP}/{}", self.plural)).watch(&only, ANY);
        let request = request.map_err(kube::Error::BuildRequest)?;
        let stream = timeout(DEADLINE, self.client.request_events::<Value>(request)).await;
        let mut stream = pin!(stream.map_err(|_| Trouble::Late)??);
        loop {
            let event = timeout(SILENCE, stream.try_next()).await.map_err(|_| Trouble::Late)??;
            match event {
                Some(WatchEvent::Added(now) | WatchEvent::Modified(now)) => self.look(&now).await?,
                Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status).into()),
                Some(WatchEvent::Deleted(_) | WatchEvent::Bookmark(_)) => {}
                None => return Ok(()),
            }
            backoff.reset();
        }
    }

    async fn look(&self, now: &Value) -> Result<(), Trouble> {
        let Some(patch) = patch(now, &STANDARD.encode(self.plane.root())) else { return Ok(()) };
        let path = format!("{GROUP}/{}/{}", self.plural, self.name);
        match send(&self.client, Method::Strategic, &path, Some(&patch)).await {
            Ok(_) => tracing::info!(name = self.name, "the API server has been told whom to trust"),
            // Somebody was faster, and the next event tells what they did; or it is gone.
            Err(error) if matches!(error.code(), Some(404 | 409)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// What makes every webhook of `configuration` trust `bundle`; `None` if all do. A strategic merge finds webhooks by name.
fn patch(configuration: &Value, bundle: &str) -> Option<Value> {
    let webhooks = configuration["webhooks"].as_array()?;
    let lacking: Vec<Value> = webhooks
        .iter()
        .filter(|webhook| webhook["clientConfig"]["caBundle"] != bundle)
        .map(|webhook| json!({"name": webhook["name"], "clientConfig": {"caBundle": bundle}}))
        .collect();
    let version = &configuration["metadata"]["resourceVersion"];
    (!lacking.is_empty()).then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": lacking}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhooks_that_trust_another_are_written() {
        let mut configuration = json!({"metadata": {"resourceVersion": "7"}, "webhooks": [
            {"name": "a", "clientConfig": {"service": {"name": "mesh-control"}, "caBundle": "b2xk"}},
            {"name": "b", "clientConfig": {"caBundle": "bmV3"}},
            {"name": "c", "clientConfig": {}},
        ]});
        let written = patch(&configuration, "bmV3").unwrap();
        let webhook = |name: &str| json!({"name": name, "clientConfig": {"caBundle": "bmV3"}});
        let expected =
            json!({"metadata": {"resourceVersion": "7"}, "webhooks": [webhook("a"), webhook("c")]});
        assert_eq!(written, expected);
        for one in configuration["webhooks"].as_array_mut().unwrap() {
            one["clientConfig"]["caBundle"] = "bmV3".into();
        }
        assert_eq!(patch(&configuration, "bmV3"), None);
        assert_eq!(patch(&json!({}), "bmV3"), None);
    }
}
