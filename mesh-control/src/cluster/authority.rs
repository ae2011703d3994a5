//! The certificate authority in a Secret, made once by whichever replica comes first, or supplied by the user; and how replicas
//! take another one into use together.
//!
//! Where a succession stands ([`crate::ca::succession`]) is a second Secret, which only the leader writes, and before anybody acts
//! on it; every replica follows. Each notes there, as an annotation, which trust anchors all of its proxies have acknowledged: the
//! leader lets a new root sign when every replica's pod says so.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::event::{self, About, Tone};
use super::request::{Method, RequestError, send};
use crate::api::core::Pod;
use crate::ca::keeper::{Given, Standing, now};
use crate::ca::succession::{Known, Pace, Pair, Phase, Succession};
use crate::ca::{Authority, AuthorityError, short_hash};
use crate::serve::Plane;

/// The Secret, in the form of cert-manager's: `tls.crt`, `tls.key` and, for an intermediate, `ca.crt`.
pub const SECRET: &str = "mesh-ca";
/// The Secret that tells where a succession stands.
pub const SUCCESSION: &str = "mesh-ca-succession";
/// Its only key: JSON.
const KEY: &str = "succession";
/// Annotations of it that replicas write: which anchors all of a replica's proxies trust.
const TRUSTED_BY: &str = "trusted.minimesh.io/";
/// The label of the replicas' pods.
const REPLICA: (&str, &str) = ("app", "mesh-control");
/// How often each replica looks at both.
const LOOK: Duration = Duration::from_secs(10);

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A Secret cannot be read or written.
    #[error("cannot read or write secrets {SECRET} and {SUCCESSION}")]
    Request(#[from] RequestError),
    /// A value is missing, or not text.
    #[error("secret {SECRET} has no usable {0}")]
    Missing(&'static str),
    /// What is in it is not an authority.
    #[error("secret {SECRET} cannot be used")]
    Authority(#[from] AuthorityError),
}

/// Opens the authority of `namespace`; makes a new root if there is none. Where a succession stands goes before what the user has
/// put there since: nobody trusts that yet.
///
/// Creating is what decides between replicas that start together: the API server lets one of them, and the others read.
///
/// # Errors
/// When the Secret can neither be read nor made, or is of no use.
pub async fn open(client: &Client, namespace: &str, pace: Pace) -> Result<(Follower, Standing), SecretError> {
    let secrets = Secrets { client: client.clone(), namespace: namespace.to_owned() };
    let given = secrets.given_or_made().await?;
    let kept = secrets.kept().await?.and_then(|kept| kept.succession);
    let succession = match kept {
        Some(kept) if Standing::of(&kept, &pace).is_ok() => kept,
        _ => Succession::settled(given.check()?.0),
    };
    let standing = Standing::of(&succession, &pace)?;
    Ok((Follower { secrets, pace, succession, started: Instant::now() }, standing))
}

/// Both Secrets.
struct Secrets {
    client: Client,
    namespace: String,
}

/// Where a succession stands, as it is written down.
struct Kept {
    version: Value,
    /// None when it cannot be read.
    succession: Option<Succession>,
    /// By annotation.
    trusted: BTreeMap<String, String>,
}

impl Secrets {
    fn path(&self, name: &str) -> String {
        format!("/api/v1/namespaces/{}/secrets/{name}", self.namespace)
    }

    async fn get(&self, name: &str) -> Result<Option<Value>, SecretError> {
        match send(&self.client, Method::Get, &self.path(name), None).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(&self, name: &str, kind: &str, data: Value) -> Result<Value, RequestError> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "mesh"}}, "data": data,
        });
        let path = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        send(&self.client, Method::Create, &path, Some(&secret)).await
    }

    async fn given_or_made(&self) -> Result<Given, SecretError> {
        if let Some(secret) = self.get(SECRET).await? {
            return given(&secret);
        }
        let (root, key) = Authority::make()?;
        let data = json!({
            "tls.crt": STANDARD.encode(&root), "tls.key": STANDARD.encode(key), "ca.crt": STANDARD.encode(&root),
        });
        match self.create(SECRET, "kubernetes.io/tls", data).await {
            Ok(secret) => given(&secret),
            Err(error) if error.code() == Some(409) => {
                given(&send(&self.client, Method::Get, &self.path(SECRET), None).await?)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn kept(&self) -> Result<Option<Kept>, SecretError> {
        Ok(self.get(SUCCESSION).await?.as_ref().map(Kept::read))
    }

    /// Writes where it stands, unless another has since; notes of replicas on what was before go.
    async fn keep(&self, succession: &Succession, before: Option<&Kept>) -> Result<(), RequestError> {
        let text = serde_json::to_string(succession).expect("a succession is plain text");
        let data = json!({KEY: STANDARD.encode(text)});
        let Some(before) = before else { return self.create(SUCCESSION, "Opaque", data).await.map(drop) };
        let gone: BTreeMap<_, _> = before.trusted.keys().map(|note| (note, Value::Null)).collect();
        let patch =
            json!({"metadata": {"resourceVersion": before.version, "annotations": gone}, "data": data});
        send(&self.client, Method::Merge, &self.path(SUCCESSION), Some(&patch)).await.map(drop)
    }

    /// Notes that all of a replica's proxies trust these anchors.
    async fn note(&self, replica: &str, anchors: &str) -> Result<(), RequestError> {
        let patch = json!({"metadata": {"annotations": {annotation(replica): anchors}}});
        send(&self.client, Method::Merge, &self.path(SUCCESSION), Some(&patch)).await.map(drop)
    }

    /// Tells users, as events of the Secret that they have put there.
    async fn tell(&self, tone: Tone, reason: &str, message: &str) {
        let uid = match self.get(SECRET).await {
            Ok(Some(secret)) => secret["metadata"]["uid"].clone(),
            _ => Value::Null,
        };
        let about =
            About { version: "v1".into(), kind: "Secret", namespace: &self.namespace, name: SECRET, uid };
        if let Err(error) = event::tell(&self.client, &about, tone, reason, message).await {
            tracing::debug!(error = &error as &dyn std::error::Error, reason, "an event cannot be written");
        }
    }
}

impl Kept {
    fn read(secret: &Value) -> Self {
        let text = secret["data"][KEY].as_str().and_then(|encoded| STANDARD.decode(encoded).ok());
        let succession = serde_json::from_slice(&text.unwrap_or_default());
        let notes = secret["metadata"]["annotations"].as_object().into_iter().flatten();
        let ours = notes.filter(|(name, _)| name.starts_with(TRUSTED_BY));
        Self {
            version: secret["metadata"]["resourceVersion"].clone(),
            succession: succession
                .inspect_err(
                    |error| tracing::error!(%error, "secret {SUCCESSION} cannot be read and is not followed"),
                )
                .ok(),
            trusted: ours
                .filter_map(|(name, anchors)| Some((name.clone(), anchors.as_str()?.to_owned())))
                .collect(),
        }
    }
}

/// By which a replica's note is found; its pod's name may be longer than an annotation's.
fn annotation(replica: &str) -> String {
    format!("{TRUSTED_BY}{}", short_hash(replica.as_bytes()))
}

/// Takes part in successions as one of the replicas.
pub struct Follower {
    secrets: Secrets,
    pace: Pace,
    succession: Succession,
    started: Instant,
}

impl Follower {
    /// Follows as the replica of this pod until `stop`; moves a succession on while `leads`.
    pub async fn follow(
        mut self,
        plane: Arc<Plane>,
        pod: String,
        leads: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        let look = LOOK.min(self.pace.introduce.max(Duration::from_millis(50)));
        loop {
            let leading = *leads.borrow();
            tokio::select! {
                round = self.round(&plane, &pod, leading) => match round {
                    Ok(()) => {}
                    // Somebody was faster: what they wrote is seen at the next look.
                    Err(SecretError::Request(error)) if matches!(error.code(), Some(409)) => {}
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "the certificate authority is not followed just now");
                    }
                },
                () = stop.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(look) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn round(&mut self, plane: &Plane, pod: &str, leads: bool) -> Result<(), SecretError> {
        let kept = self.secrets.kept().await?;
        let known = kept.as_ref().and_then(|kept| kept.succession.as_ref());
        if let Some(succession) = known.filter(|known| **known != self.succession)
            && let Err(error) = self.stand(plane, succession.clone())
        {
            tracing::error!(
                error = chain(&error),
                "what secret {SUCCESSION} says cannot be followed; the leader writes it anew"
            );
        }
        let is_written = known == Some(&self.succession);
        // A note makes another version of what was read: going on waits for the next look.
        if let Some(kept) = &kept
            && self.note(plane, pod, kept).await?
        {
            return Ok(());
        }
        let offered = self.offered(plane, leads).await?;
        if !leads {
            return Ok(());
        }
        let mut next = self.succession.clone();
        if let Some((pair, authority)) = offered {
            let believed = authority.is_believed_by(&next.known_anchors());
            next.offer(pair, believed, now(), &self.pace);
        }
        let standing = plane.standing();
        let known = Known {
            all_trust: kept.as_ref().is_some_and(|kept| self.all_trust(plane, pod, kept, &standing.id)),
            expired: standing.authority.expires() <= OffsetDateTime::now_utc(),
        };
        next.step(known, now(), &self.pace);
        if next != self.succession || !is_written {
            self.write(plane, next, kept.as_ref()).await?;
        }
        Ok(())
    }

    /// What the user gives, if it can sign; whether it cannot is told, by the leader to users too.
    async fn offered(&self, plane: &Plane, leads: bool) -> Result<Option<(Pair, Authority)>, SecretError> {
        // Whoever has taken the Secret away says nothing of a new one.
        let Some(secret) = self.secrets.get(SECRET).await? else { return Ok(None) };
        let checked = given(&secret).and_then(|given| Ok(given.check()?));
        let refused = checked.as_ref().err().map(chain);
        if plane.refuse_authority(refused.clone())
            && leads
            && let Some(refused) = refused
        {
            let message = format!("{refused}; the authority before it stays in force");
            self.secrets.tell(Tone::Warning, "AuthorityRefused", &message).await;
        }
        Ok(checked.ok())
    }

    /// Notes once that all of our proxies trust what is being introduced. True if it was noted now.
    async fn note(&self, plane: &Plane, pod: &str, kept: &Kept) -> Result<bool, SecretError> {
        let standing = plane.standing();
        // After a start of ours proxies need a moment to come back.
        let settled_in = self.started.elapsed() >= self.pace.introduce;
        let noted = kept.trusted.get(&annotation(pod)).is_some_and(|noted| *noted == standing.id);
        let due = standing.phase == Phase::Introducing
            && settled_in
            && !noted
            && plane.registry().all_trust(&standing.id);
        if due {
            self.secrets.note(pod, &standing.id).await?;
        }
        Ok(due)
    }

    /// Whether every replica has noted these anchors. Replicas are pods: where ours is not among the known, none is.
    fn all_trust(&self, plane: &Plane, own: &str, kept: &Kept, anchors: &str) -> bool {
        let view = plane.view();
        let pods = view.world().all::<Pod>().filter(|pod| {
            pod.namespace() == self.secrets.namespace
                && pod.object.meta.labels.get(REPLICA.0).is_some_and(|app| app == REPLICA.1)
                && !pod.is_finished()
        });
        let replicas: BTreeSet<String> = pods.map(|pod| pod.name().to_owned()).collect();
        let has_noted =
            |pod: &String| kept.trusted.get(&annotation(pod)).is_some_and(|noted| noted == anchors);
        replicas.contains(own) && replicas.iter().all(has_noted)
    }

    /// Writes where it stands now, unless it is not as it was when this was decided, and then acts on it.
    async fn write(
        &mut self,
        plane: &Plane,
        next: Succession,
        decided_on: Option<&Kept>,
    ) -> Result<(), SecretError> {
        self.secrets.keep(&next, decided_on).await?;
        let before = plane.standing();
        self.stand(plane, next)?;
        let after = plane.standing();
        if let Some((reason, message)) = news(&before, &after) {
            self.secrets.tell(Tone::Normal, reason, &message).await;
        }
        Ok(())
    }

    fn stand(&mut self, plane: &Plane, succession: Succession) -> Result<(), SecretError> {
        let standing = Standing::of(&succession, &self.pace)?;
        let present = plane.standing();
        if !standing.authority.is_same(&present.authority)
            || (&standing.id, standing.phase) != (&present.id, present.phase)
        {
            tracing::info!(
                phase = ?standing.phase,
                signer = standing.authority.id(),
                "the certificate authority has changed"
            );
            plane.stand(standing);
        }
        self.succession = succession;
        Ok(())
    }
}

/// What users are told of a step: its reason, and a sentence.
fn news(before: &Standing, after: &Standing) -> Option<(&'static str, String)> {
    let (signer, was) = (after.authority.id(), before.authority.id());
    if signer != was {
        let message =
            format!("authority {signer} signs, and no longer {was}; proxies renew their certificates");
        return Some(("AuthoritySigns", message));
    }
    match (before.phase, after.phase) {
        (_, Phase::Introducing) if before.id != after.id => {
            let message =
                format!("another authority is being introduced; {signer} signs until all proxies trust it");
            Some(("AuthorityIntroduced", message))
        }
        (Phase::Introducing, _) => Some((
            "AuthorityTakenBack",
            format!("no other authority is introduced any more; {signer} signs on"),
        )),
        (Phase::Retiring, Phase::Settled) => {
            Some(("AuthorityRetired", format!("only authority {signer} is trusted now")))
        }
        _ => None,
    }
}

fn chain(error: &SecretError) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn given(secret: &Value) -> Result<Given, SecretError> {
    let value = |name: &'static str| {
        let encoded = secret["data"][name].as_str().filter(|text| !text.is_empty());
        let bytes = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(SecretError::Missing(name))
    };
    Ok(Given { certificates: value("tls.crt")?, key: value("tls.key")?, roots: value("ca.crt").ok() })
}

#[cfg(test)]
mod tests;
