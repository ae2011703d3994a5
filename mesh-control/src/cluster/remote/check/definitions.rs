//! Definitions of the mesh's kinds: there, established, and in a version that we read.

use futures_util::future::join_all;
use serde_json::Value;

use super::Check;
use crate::api::Kind;
use crate::cluster::remote::{Remote, RemoteError};

const SUBJECT: &str = "definitions";

/// Of an installed mesh.
pub(super) async fn installed(remote: &Remote) -> Vec<Check> {
    let found = all(remote).await;
    let count = found.len();
    let mut checks = judged(found);
    if checks.is_empty() {
        checks.push(Check::ok(SUBJECT, format!("all {count} kinds of the mesh are served")));
    }
    checks
}

/// Before an installation, which creates those that are missing.
pub(super) async fn before(remote: &Remote) -> Vec<Check> {
    let found = all(remote).await;
    let there = found.iter().filter(|(_, found)| matches!(found, Ok(Some(_)))).count();
    let mut checks = judged(found.into_iter().filter(|(_, found)| !matches!(found, Ok(None))));
    if checks.is_empty() {
        let message = match there {
            0 => "none is there yet; all will be created".to_owned(),
            _ => format!("{there} are there already and will stay as they are"),
        };
        checks.push(Check::ok(SUBJECT, message));
    }
    checks
}

/// What is wrong with each; what cannot be looked at is so for one reason, which is told once.
fn judged(found: impl IntoIterator<Item = (Kind, Found)>) -> Vec<Check> {
    let (mut checks, mut unseen) = (Vec::new(), None);
    for (kind, found) in found {
        match found {
            Ok(found) => checks.extend(judge(kind, found)),
            Err(error) => unseen = Some(Check::unseen(SUBJECT, &error)),
        }
    }
    checks.extend(unseen);
    checks
}

type Found = Result<Option<Value>, RemoteError>;

async fn all(remote: &Remote) -> Vec<(Kind, Found)> {
    let kinds = Kind::all().filter(|kind| is_of_mesh(*kind));
    join_all(kinds.map(|kind| async move { (kind, remote.look(&path(kind)).await) })).await
}

fn is_of_mesh(kind: Kind) -> bool {
    let group = group(kind);
    group.ends_with(".istio.io") || group == "minimesh.io"
}

fn group(kind: Kind) -> &'static str {
    kind.versions().first().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

fn path(kind: Kind) -> String {
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}.{}", kind.plural(), group(kind))
}

/// None if there is nothing to say.
fn judge(kind: Kind, found: Option<Value>) -> Option<Check> {
    let subject = format!("CustomResourceDefinition {}.{}", kind.plural(), group(kind));
    let Some(definition) = found else {
        return Some(Check::error(subject, "is missing").fix("mesh install --apply creates it"));
    };
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    let mut established = conditions.filter(|one| one["type"] == "Established" && one["status"] == "True");
    if established.next().is_none() {
        let describe = format!("kubectl describe crd {}.{}", kind.plural(), group(kind));
        return Some(Check::error(subject, "is not established").fix(describe));
    }
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true);
    let served: Vec<&str> = served.filter_map(|version| version["name"].as_str()).collect();
    let read = kind.versions().iter().filter_map(|version| version.split_once('/'));
    let read: Vec<&str> = read.map(|(_, version)| version).collect();
    if served.iter().any(|version| read.contains(version)) {
        return None;
    }
    let message = format!("serves {}, of which we read none ({})", served.join(", "), read.join(", "));
    Some(Check::error(subject, message).fix("update the definition, which is another mesh's"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(version: &str, established: &str) -> Option<Value> {
        Some(json!({"spec": {"versions": [{"name": version, "served": true}]},
            "status": {"conditions": [{"type": "Established", "status": established}]}}))
    }

    #[test]
    fn a_definition_must_be_there_established_and_of_a_version_that_is_read() {
        let said = |found: Option<Value>| judge(Kind::VirtualService, found).map(|check| check.message);
        assert_eq!(said(definition("v1beta1", "True")), None);
        assert_eq!(said(None).unwrap(), "is missing");
        assert_eq!(said(definition("v1", "False")).unwrap(), "is not established");
        assert!(said(definition("v2", "True")).unwrap().starts_with("serves v2, of which we read none"));
    }
}
