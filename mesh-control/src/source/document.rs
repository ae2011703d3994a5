//! One document: from its value to an object, with everything that is worth telling about it.

use std::sync::Arc;

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::advice::advice;
use super::contradictions::contradictions;
use super::validation::refusal;
use crate::api::reader::{FieldError, read};
use crate::api::{
    Age, Key, Kind, Metadata, Object, Origin, Recognized, Spec, conflicting_alternatives, out_of_range,
};
use crate::problem::{ObjectRef, Problem, worst};

/// The largest object in bytes of JSON: what etcd takes, so no cluster has a larger one. It bounds what one object can cost.
const MAX_OBJECT: usize = 1536 * 1024;

/// What became of a document.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// A good object; the problems are warnings.
    Object(Arc<Object>, Vec<Problem>),
    /// An object that cannot be used; its last good version stays.
    Refused(Key, Problem),
    /// Nothing for us.
    Skipped(Option<Problem>),
    /// Not even an object's name can be made out.
    Unreadable(Problem),
}

/// Reads one object. `now` stands in for a missing creation time, in seconds since 1970.
pub(super) fn read_document(document: &Value, origin: Origin, now: i64) -> Outcome {
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let (Some(version), Some(kind)) = (text("apiVersion"), text("kind")) else {
        let missing = if text("kind").is_none() { "kind" } else { "apiVersion" };
        let problem = Problem::error(missing, "missing; every document needs apiVersion and kind");
        return Outcome::Unreadable(origin.locate(problem));
    };
    let object = reference(document, kind);
    let tell = |problem: Problem| origin.locate(problem.about(object.clone()));
    match Kind::recognize(version, kind) {
        Recognized::Known(kind) => read_object(kind, document, origin, now),
        Recognized::WithoutEffect => Outcome::Skipped(Some(tell(Problem::warning(
            "kind",
            format!("{kind} ({version}) has no effect yet"),
        )))),
        Recognized::Wrong(allowed) => {
            let message = format!("{version} {kind} is not known; {allowed}");
            Outcome::Skipped(Some(tell(Problem::error("apiVersion", message))))
        }
        Recognized::Foreign => {
            let message = format!("{version} {kind} is nothing the mesh reads; skipped");
            Outcome::Skipped(Some(tell(Problem::info("kind", message))))
        }
    }
}

/// Whatever can be said of an object that may be malformed.
fn reference(document: &Value, kind: &str) -> ObjectRef {
    let meta = |name: &str| document["metadata"][name].as_str().unwrap_or_default().to_owned();
    ObjectRef { kind: kind.to_owned(), namespace: meta("namespace"), name: meta("name") }
}

fn read_object(kind: Kind, document: &Value, origin: Origin, now: i64) -> Outcome {
    let meta = match read_metadata(kind, document) {
        Ok(meta) => meta,
        Err(problem) => {
            let problem = origin.locate(problem.about(reference(document, kind.as_str())));
            return match usable_key(kind, document) {
                Some(key) => Outcome::Refused(key, problem),
                None => Outcome::Unreadable(problem),
            };
        }
    };
    let key = Key::new(kind, &meta.namespace, &meta.name);
    let canonical = document.to_string();
    if canonical.len() > MAX_OBJECT {
        let message = "larger than 1.5 MiB; a cluster refuses this";
        let problem = Problem::error("", message).with_fix("split it into several objects");
        return Outcome::Refused(key.clone(), origin.locate(problem.about(&key)));
    }
    let hash = xxh3_64(canonical.as_bytes());
    drop(canonical);
    let spec = document.get("spec");
    if let Some((field, message)) = spec.and_then(|spec| conflicting_alternatives(kind, spec, "spec")) {
        let problem = origin.locate(Problem::error(field, message).about(&key));
        return Outcome::Refused(key, problem);
    }
    let read = match Spec::read(kind, document) {
        Ok(read) => read,
        Err(error) => {
            let problem = origin.locate(field_problem(error).about(&key));
            return Outcome::Refused(key, problem);
        }
    };
    let mut unknown = unknown_members(document).into_iter().chain(read.unknown.iter().cloned());
    if kind.refuses_unknown_fields()
        && let Some(field) = unknown.next()
    {
        let message = format!("unknown field; {kind} has no such field, and is refused as a whole");
        return Outcome::Refused(key.clone(), origin.locate(Problem::error(field, message).about(&key)));
    }
    drop(unknown);
    let ranges = out_of_range(kind, document, "");
    if let Some(problem) = refusal(kind, &read.value, &ranges) {
        return Outcome::Refused(key.clone(), origin.locate(problem.about(&key)));
    }
    let age = Age { created: created(&meta).unwrap_or(now), sequence: 0 };
    let object = Object { key, meta, spec: read.value, origin, hash, age };
    let mut problems = advice(&object);
    problems.extend(contradictions(&object));
    problems.extend(ranges.into_iter().map(|(field, message)| Problem::warning(field, message)));
    if kind.reports_unknown_fields() {
        let unknown = unknown_members(document).into_iter().chain(read.unknown);
        problems.extend(unknown.map(|field| Problem::warning(field, "unknown field")));
    }
    let problems = object.blame_all(worst(problems));
    Outcome::Object(Arc::new(object), problems)
}

fn read_metadata(kind: Kind, document: &Value) -> Result<Metadata, Problem> {
    let value = document.get("metadata").unwrap_or(&Value::Null);
    if value.is_null() {
        return Err(Problem::error("metadata", "missing; every object needs metadata.name"));
    }
    let mut meta: Metadata = read(value, "metadata").map_err(field_problem)?.value;
    if !kind.is_namespaced() {
        meta.namespace.clear();
    } else if meta.namespace.is_empty() {
        meta.namespace = "default".to_owned();
    }
    check_name("metadata.name", &meta.name)?;
    if kind.is_namespaced() {
        check_name("metadata.namespace", &meta.namespace)?;
    }
    if meta.creation_timestamp.is_some() && created(&meta).is_none() {
        let message = "not a time; write it as RFC 3339 does, 2026-01-31T08:00:00Z";
        return Err(Problem::error("metadata.creationTimestamp", message));
    }
    Ok(meta)
}

/// A DNS subdomain (RFC 1123), as Kubernetes wants names; they become parts of hosts, identities and file names.
fn check_name(field: &str, name: &str) -> Result<(), Problem> {
    let ends_well = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let valid = name.len() <= 253 && name.split('.').all(|l| ends_well(l) && l.bytes().all(allowed));
    if name.is_empty() {
        return Err(Problem::error(field, "missing"));
    }
    if !valid {
        let shown: String = name.chars().take(80).collect();
        let message = format!("{shown:?} is not a name; allowed are a-z, 0-9, - and . inside, at most 253");
        return Err(Problem::error(field, message));
    }
    Ok(())
}

fn usable_key(kind: Kind, document: &Value) -> Option<Key> {
    let meta = |name: &str| document["metadata"][name].as_str().filter(|text| !text.is_empty());
    Some(Key::new(kind, meta("namespace").unwrap_or("default"), meta("name")?))
}

fn field_problem(error: FieldError) -> Problem {
    Problem { fix: error.fix, ..Problem::error(error.field, error.message) }
}

fn created(meta: &Metadata) -> Option<i64> {
    let text = meta.creation_timestamp.as_deref()?;
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
        .ok()
        .map(time::OffsetDateTime::unix_timestamp)
}

fn unknown_members(document: &Value) -> Vec<String> {
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    let names = document.as_object().into_iter().flat_map(serde_json::Map::keys);
    names.filter(|name| !known.contains(&name.as_str())).cloned().collect()
}
