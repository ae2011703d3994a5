//! What became of objects, written to the objects: conditions, an Event when something is refused, addresses of Ingresses.
//!
//! Only the leader writes, only transitions, and at a bounded pace: a thousand bad objects cost the API server no more than
//! `PACE` and `ROUND` allow, and no configuration waits for it. Namespaces take turns, so that one with a thousand does not
//! keep what is to be said of others. What is due is found out beside the thread that serves. Conditions that others wrote stay.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::serve::{Plane, ProxyStatus};
use crate::view::View;

/// Between two writes.
const PACE: Duration = Duration::from_millis(20);
/// Written before acknowledgements and problems are looked at again.
const ROUND: usize = 25;
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
    /// Saying something failed; others come first until then.
    again: Option<Instant>,
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
        let (mut known, proxies) = (std::mem::take(&mut self.known), plane.registry().list());
        let look = {
            let view = Arc::clone(&view);
            move || (due(&mut known, &view, &proxies), known)
        };
        let Ok((due, known)) = tokio::task::spawn_blocking(look).await else {
            tracing::error!("what is to be said of objects cannot be found out");
            return;
        };
        self.known = known;
        for (key, said) in due {
            if let Err(error) = self.tell(&key, &said).await {
                tracing::debug!(%key, error = &error as &dyn std::error::Error, "its status cannot be written");
                if let Some(known) = self.known.get_mut(&key) {
                    known.again = Some(Instant::now() + PATIENCE);
                }
                continue;
            }
            if let Some(known) = self.known.get_mut(&key) {
                known.said = Some(said);
            }
            sleep(PACE).await;
        }
        self.ingress.round(&self.client, view.world()).await;
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

/// Objects of which something else is to be said than was said last, as many as one round writes.
fn due(known: &mut BTreeMap<Key, Known>, view: &View, proxies: &[ProxyStatus]) -> Vec<(Key, Said)> {
    let (errors, world) = (errors(view), view.world());
    let objects: BTreeMap<&Key, &Arc<Object>> = world
        .objects()
        .filter(|object| has_conditions(object.key.kind))
        .map(|object| (&object.key, object))
        .collect();
    let refused = world.refusals().map(|(key, _)| key).filter(|key| has_conditions(key.kind));
    let keys: BTreeSet<&Key> = objects.keys().copied().chain(refused).collect();
    known.retain(|key, _| keys.contains(key));
    let mut acked: Vec<u64> =
        proxies.iter().filter(|proxy| proxy.refused.is_empty()).map(|proxy| proxy.acked).collect();
    acked.sort_unstable();
    let mut due: BTreeMap<&str, Vec<(Key, Said)>> = BTreeMap::new();
    for key in keys {
        let hash = objects.get(key).map_or(0, |object| object.hash);
        if !known.contains_key(key) {
            known.insert(key.clone(), Known::new(hash, view.generation()));
        }
        let Some(known) = known.get_mut(key) else { continue };
        if known.hash != hash {
            *known = Known { said: known.said.take(), ..Known::new(hash, view.generation()) };
        }
        let of_namespace = due.entry(&key.namespace).or_default();
        if of_namespace.len() == ROUND || known.again.is_some_and(|again| again > Instant::now()) {
            continue;
        }
        let error = world.refusal(key).or_else(|| errors.get(&ObjectRef::from(key)).copied());
        let behind = acked.partition_point(|generation| *generation < known.generation);
        let (acked, all) = (acked.len() - behind, proxies.len());
        let programmed =
            if acked == all { Some(true) } else { (known.since.elapsed() > PATIENCE).then_some(false) };
        let said = || {
            let message = error
                .map_or_else(|| format!("acknowledged by {acked} of {all} proxies"), ToString::to_string);
            Said { accepted: error.is_none(), programmed, message: message.chars().take(LONGEST).collect() }
        };
        let is_said = error.is_none()
            && known.said.as_ref().is_some_and(|said| said.accepted && said.programmed == programmed);
        if programmed.is_none() || is_said {
            continue;
        }
        let said = said();
        if known.said.as_ref().is_none_or(|before| is_transition(before, &said)) {
            of_namespace.push((key.clone(), said));
        }
    }
    in_turns(due.into_values())
}

/// The first of each, then the second of each, and so on, as many as one round writes.
fn in_turns<T>(lists: impl Iterator<Item = Vec<T>>) -> Vec<T> {
    let mut lists: Vec<_> = lists.map(Vec::into_iter).collect();
    let mut taken = Vec::new();
    while taken.len() < ROUND && !lists.is_empty() {
        lists.retain_mut(|list| {
            let next = list.next();
            let is_some = next.is_some();
            taken.extend(next);
            is_some
        });
    }
    taken.truncate(ROUND);
    taken
}

impl Known {
    fn new(hash: u64, generation: u64) -> Self {
        Self { hash, generation, since: Instant::now(), said: None, again: None }
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
fn errors(view: &View) -> BTreeMap<&ObjectRef, &Problem> {
    let mut errors = BTreeMap::new();
    for problem in view.problems().iter().filter(|problem| problem.severity == Severity::Error) {
        if let Some(object) = &problem.object {
            errors.entry(&**object).or_insert(problem);
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
    fn namespaces_take_turns() {
        let lists = [(0..1000).collect(), vec![2000], Vec::new(), vec![3000, 3001]];
        let taken = in_turns(lists.into_iter());
        assert_eq!(taken[..6], [0, 2000, 3000, 1, 3001, 2]);
        assert_eq!(taken.len(), ROUND);
        assert_eq!(in_turns([vec![1], vec![2]].into_iter()), [1, 2]);
    }

    #[test]
    fn of_a_thousand_bad_objects_a_round_has_some_and_what_is_due_elsewhere() {
        let rule = |namespace: &str, name: &str, timeout: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
                 spec: {{hosts: [a], http: [{{timeout: {timeout}, route: [{{destination: {{host: a}}}}]}}]}}\n---\n"
            )
        };
        let mut text: String = (0..1000).map(|at| rule("bad", &format!("r{at}"), "soon")).collect();
        text += &rule("good", "r", "1s");
        let mut world = crate::world::World::default();
        world.apply(crate::source::files::load_text(std::path::Path::new("t.yaml"), &text).into());
        let (view, mut known) = (View::new(world, 1), BTreeMap::new());
        let first = due(&mut known, &view, &[]);
        assert_eq!((first.len(), known.len()), (ROUND, 1001));
        let good = first.iter().find(|(key, _)| &*key.namespace == "good").unwrap();
        assert!(good.1.accepted && !first[0].1.accepted);
        for (key, said) in first {
            known.get_mut(&key).unwrap().said = Some(said);
        }
        let second = due(&mut known, &view, &[]);
        assert_eq!(second.len(), ROUND);
        assert!(second.iter().all(|(key, _)| &*key.namespace == "bad" && known[key].said.is_none()));
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
