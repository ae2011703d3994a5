//! What became of objects, written to the objects: conditions, an Event when something is refused, addresses of Ingresses.
//!
//! Only the leader writes, only transitions, and at a bounded pace: a thousand bad objects cost the API server no more than
//! `PACE` allows, and nothing waits for it. Conditions that others wrote stay.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

mod ingress;

use super::event::{self, About, Tone, now};
use super::request::{Method, RequestError, send};
use crate::api::{Key, Kind, Object};
use crate::problem::{ObjectRef, Problem, Severity};
use crate::serve::Plane;
use crate::view::View;

/// Between two writes.
const PACE: Duration = Duration::from_millis(20);
/// How often acknowledgements and addresses are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long proxies may take before an object is said not to be in effect everywhere.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest message of a condition, in characters.
const LONGEST: usize = 1024;

/// What is said of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    accepted: bool,
    /// Whether every connected proxy has it; none while that is being waited for.
    programmed: Option<bool>,
    message: String,
}

/// What is known of one object.
struct Known {
    hash: u64,
    /// The generation of the world that first had it so.
    generation: u64,
    since: Instant,
    said: Option<Said>,
}

/// Writes while we lead, until `stop`.
pub async fn write(
    client: Client,
    plane: Arc<Plane>,
    mut leads: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut writer = Writer { client, known: BTreeMap::new(), ingress: ingress::Addresses::default() };
    loop {
        let leading = *leads.borrow_and_update();
        if leading {
            tokio::select! {
                () = writer.round(&plane) => {}
                () = stop.cancelled() => return,
                _ = leads.changed() => continue,
            }
        } else {
            writer.known.clear();
        }
        tokio::select! {
            () = sleep(LOOK) => {}
            changed = leads.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
    }
}

struct Writer {
    client: Client,
    known: BTreeMap<Key, Known>,
    ingress: ingress::Addresses,
}

impl Writer {
    async fn round(&mut self, plane: &Plane) {
        // Problems are found out beside the thread that serves; conditions speak of the world that they are of.
        let view = plane.judged();
        if view.generation() == 0 {
            return;
        }
        for (key, said) in self.due(&view, plane) {
            if let Err(error) = self.tell(&key, &said).await {
                tracing::debug!(%key, error = &error as &dyn std::error::Error, "its status cannot be written");
                continue;
            }
            if let Some(known) = self.known.get_mut(&key) {
                known.said = Some(said);
            }
            sleep(PACE).await;
        }
        self.ingress.round(&self.client, view.world()).await;
    }

    /// Objects of which something else is to be said than was said last.
    fn due(&mut self, view: &View, plane: &Plane) -> VecDeque<(Key, Said)> {
        let errors = errors(view);
        let proxies = plane.registry().list();
        let objects: BTreeMap<&Key, &Arc<Object>> =
            view.world().objects().map(|object| (&object.key, object)).collect();
        let refused = view.world().refusals().map(|(key, _)| key).filter(|key| !objects.contains_key(key));
        let keys: BTreeSet<&Key> =
            objects.keys().copied().chain(refused).filter(|key| has_conditions(key.kind)).collect();
        let mut due = VecDeque::new();
        for key in &keys {
            let hash = objects.get(key).map_or(0, |object| object.hash);
            let known =
                self.known.entry((*key).clone()).or_insert_with(|| Known::new(hash, view.generation()));
            if known.hash != hash {
                *known = Known { said: known.said.take(), ..Known::new(hash, view.generation()) };
            }
            let error = view.world().refusal(key).or_else(|| errors.get(&ObjectRef::from(*key)).copied());
            let has_it = |proxy: &&crate::serve::ProxyStatus| {
                proxy.acked >= known.generation && proxy.refused.is_empty()
            };
            let (acked, all) = (proxies.iter().filter(has_it).count(), proxies.len());
            let programmed =
                if acked == all { Some(true) } else { (known.since.elapsed() > PATIENCE).then_some(false) };
            let message = error
                .map_or_else(|| format!("acknowledged by {acked} of {all} proxies"), ToString::to_string);
            let said = Said {
                accepted: error.is_none(),
                programmed,
                message: message.chars().take(LONGEST).collect(),
            };
            if said.programmed.is_some()
                && known.said.as_ref().is_none_or(|before| is_transition(before, &said))
            {
                due.push_back(((*key).clone(), said));
            }
        }
        self.known.retain(|key, _| keys.contains(key));
        due
    }

    async fn tell(&self, key: &Key, said: &Said) -> Result<(), RequestError> {
        let mut missing = None;
        for version in key.kind.versions() {
            let path =
                format!("/apis/{version}/namespaces/{}/{}/{}", key.namespace, key.kind.plural(), key.name);
            match send(&self.client, Method::Get, &path, None).await {
                Ok(object) => return self.write(&path, key, &object, said).await,
                Err(error) if error.code() == Some(404) => missing = Some(error),
                Err(error) => return Err(error),
            }
        }
        missing.map_or(Ok(()), Err)
    }

    async fn write(&self, path: &str, key: &Key, object: &Value, said: &Said) -> Result<(), RequestError> {
        let Some(conditions) = conditions(object, said) else { return Ok(()) };
        let patch = json!({"metadata": {"resourceVersion": object["metadata"]["resourceVersion"]},
            "status": {"conditions": conditions, "observedGeneration": object["metadata"]["generation"]}});
        send(&self.client, Method::Merge, &format!("{path}/status"), Some(&patch)).await?;
        if !said.accepted {
            let about = About {
                version: object["apiVersion"].clone(),
                kind: key.kind.as_str(),
                namespace: &key.namespace,
                name: &key.name,
                uid: object["metadata"]["uid"].clone(),
            };
            event::tell(&self.client, &about, Tone::Warning, "Invalid", &said.message).await?;
        }
        Ok(())
    }
}

impl Known {
    fn new(hash: u64, generation: u64) -> Self {
        Self { hash, generation, since: Instant::now(), said: None }
    }
}

/// How many proxies there are is news only together with something else: counts change all the time.
fn is_transition(before: &Said, now: &Said) -> bool {
    (before.accepted, before.programmed) != (now.accepted, now.programmed)
        || (!now.accepted && before.message != now.message)
}

fn has_conditions(kind: Kind) -> bool {
    let group =
        kind.versions().first().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group);
    group.ends_with(".istio.io") || group == "minimesh.io"
}

/// The first error of each object that has one.
fn errors(view: &View) -> BTreeMap<ObjectRef, &Problem> {
    let mut errors = BTreeMap::new();
    for problem in view.problems().iter().filter(|problem| problem.severity == Severity::Error) {
        if let Some(object) = &problem.object {
            errors.entry((**object).clone()).or_insert(problem);
        }
    }
    errors
}

/// An object's conditions with ours among them; `None` if they say it already.
fn conditions(object: &Value, said: &Said) -> Option<Vec<Value>> {
    let before = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut after = before.clone();
    let generation = &object["metadata"]["generation"];
    let (accepted, programmed) = (said.accepted, said.accepted && said.programmed == Some(true));
    for (kind, holds, reasons) in [
        ("Accepted", accepted, ["Accepted", "Invalid"]),
        ("Programmed", programmed, ["Programmed", if accepted { "Pending" } else { "Invalid" }]),
    ] {
        let status = if holds { "True" } else { "False" };
        let ours = after.iter().position(|condition| condition["type"] == kind);
        let known = ours.map(|at| after[at].clone()).unwrap_or_default();
        if known["status"] == status
            && known["observedGeneration"] == *generation
            && (holds || known["message"] == said.message.as_str())
        {
            continue;
        }
        let since = if known["status"] == status { known["lastTransitionTime"].clone() } else { now() };
        let condition = json!({
            "type": kind, "status": status, "reason": if holds { reasons[0] } else { reasons[1] },
            "message": said.message, "lastTransitionTime": since, "observedGeneration": generation,
        });
        match ours {
            Some(at) => after[at] = condition,
            None => after.push(condition),
        }
    }
    (after != before).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(accepted: bool, message: &str) -> Said {
        Said { accepted, programmed: Some(true), message: message.to_owned() }
    }

    #[test]
    fn conditions_of_others_stay_and_what_is_said_already_is_not_written() {
        let theirs = json!({"type": "Reconciled", "status": "True"});
        let mut object = json!({"metadata": {"generation": 3}, "status": {"conditions": [theirs]}});
        let first = conditions(&object, &said(true, "acknowledged by 2 of 2 proxies")).unwrap();
        assert_eq!((first.len(), &first[0]), (3, &theirs));
        object["status"]["conditions"] = Value::Array(first);
        assert_eq!(conditions(&object, &said(true, "acknowledged by 3 of 3 proxies")), None);
        let bad = conditions(&object, &said(false, "spec.hosts: missing")).unwrap();
        assert_eq!((&bad[1]["status"], &bad[1]["message"]), (&json!("False"), &json!("spec.hosts: missing")));
        assert_eq!(bad[2]["status"], "False");
    }
}
