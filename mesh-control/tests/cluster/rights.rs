//! The control plane's rights, as the chart grants them, against what it asked for, as the API server's audit log says.

use std::collections::BTreeSet;

use mesh_control::api::Kind;
use serde_json::Value;

use crate::chart;

/// API group, resource with its subresource, verb.
type Right = (String, String, String);

/// No right was missing, and none was for nothing.
pub(crate) fn compare(log: &str, user: &str) {
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let events = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let ours: Vec<_> = events.filter(|event| event["user"]["username"] == user).collect();
    let denied = ours.iter().filter(|event| event["responseStatus"]["code"] == 403);
    let denied: BTreeSet<_> = denied.map(right).collect();
    assert!(denied.is_empty(), "the control plane was refused: {denied:?}");
    let used: BTreeSet<_> = ours.iter().map(right).collect();
    let unused = granted().into_iter().filter(|right| !used.contains(right) && !is_unseen(right));
    let unused: Vec<_> = unused.collect();
    assert!(unused.is_empty(), "granted and not used: {unused:?}");
}

/// Server-side apply of what does not exist is authorized as a creation too, and audited as a patch only.
fn is_unseen((_, resource, verb): &Right) -> bool {
    resource == "configmaps" && verb == "create"
}

fn right(event: &Value) -> Right {
    let text = |name: &str| event["objectRef"][name].as_str().unwrap_or_default().to_owned();
    let (resource, sub) = (text("resource"), text("subresource"));
    let resource = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
    (text("apiGroup"), resource, event["verb"].as_str().unwrap_or_default().to_owned())
}

fn granted() -> BTreeSet<Right> {
    let roles = chart::rights().into_iter().filter(|one| one["rules"].is_array());
    roles
        .flat_map(|role| role["rules"].as_array().unwrap().iter().flat_map(rule).collect::<Vec<_>>())
        .collect()
}

fn rule(rule: &Value) -> Vec<Right> {
    let list = |name: &str| -> Vec<String> {
        rule[name].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = Vec::new();
    for group in list("apiGroups") {
        for resource in list("resources") {
            let resources = if resource == "*" { ours(&group) } else { vec![resource] };
            for resource in resources {
                rights.extend(list("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    rights
}

/// Collections of a group of the mesh's: those that there are now, whatever comes later.
fn ours(group: &str) -> Vec<String> {
    let of = |kind: &Kind| kind.versions()[0].split_once('/').is_some_and(|(of, _)| of == group);
    Kind::all().filter(of).map(Kind::plural).collect()
}
