//! Tables named after the points of semantics.md. A fixture is the JSON that travels, so it tests the model's form as well.

mod authorization;
mod authorization_oracle;
mod connections;
mod edits;
mod limits;
mod routing;
mod routing_oracle;
mod tokens;
mod tokens_oracle;

use serde_json::{Value, json};

use super::*;
use crate::message::{Headers, Method, Scheme, Version};
use crate::model::Resource;
use crate::snapshot::{Config, compile};

/// A rule with defaults for all that `given` leaves out.
fn rule(given: Value) -> Value {
    let origin = json!({"kind": "VirtualService", "namespace": "default", "name": "vs", "field": ""});
    let mut rule = json!({"action": {"forward": [{"cluster": "v1", "weight": 1}]}, "origin": origin});
    merge(&mut rule, given);
    rule
}

fn merge(into: &mut Value, from: Value) {
    for (name, value) in from.as_object().unwrap() {
        into[name] = value.clone();
    }
}

fn routes(name: &str, hosts: Value, rules: Vec<Value>) -> Value {
    json!({"routes": {"name": name, "virtualHosts": [{"name": name, "hosts": hosts, "rules": rules}]}})
}

fn cluster(name: &str) -> Value {
    json!({"cluster": {"name": name, "service": "reviews", "serviceName": "reviews", "serviceNamespace": "default",
        "port": 9080, "protocol": "http"}})
}

fn own(given: Value) -> Value {
    let mut own = json!({"role": "sidecar", "identity": "spiffe://cluster.local/ns/default/sa/web", "workload": {},
        "mesh": {"trustDomain": "cluster.local", "drainTimeout": 5000}, "outboundPolicy": "allowAny"});
    merge(&mut own, given);
    json!({"own": own})
}

fn snapshot(resources: Vec<Value>) -> Snapshot {
    with_absent(resources, vec![])
}

fn with_absent(resources: Vec<Value>, absent: Vec<Root>) -> Snapshot {
    let resources = resources.into_iter().map(|each| serde_json::from_value::<Resource>(each).unwrap());
    let mut config: Config = resources.collect();
    absent.into_iter().for_each(|root| config.set_absent(root));
    let (snapshot, problems) = compile(None, &config);
    assert_eq!(problems, []);
    snapshot
}

/// `METHOD authority/path?query`, with headers.
fn head(line: &str, fields: &[(&str, &str)]) -> RequestHead {
    let (method, rest) = line.split_once(' ').unwrap();
    let (authority, target) = rest.split_at(rest.find('/').unwrap());
    let (path, query) = crate::canonical::split_target(&Bytes::from(target.to_owned()));
    let mut headers = Headers::default();
    fields.iter().for_each(|(name, value)| headers.append((*name).to_owned(), (*value).to_owned()));
    RequestHead {
        method: Method::parse(Bytes::from(method.to_owned())).unwrap(),
        scheme: Scheme::Http,
        host: Host::parse_authority(authority).unwrap().0,
        authority: Bytes::from(authority.to_owned()),
        path,
        query,
        version: Version::Http11,
        headers,
        upgrade: None,
    }
}

fn peer(identity: Option<&str>) -> Peer {
    Peer {
        address: "10.0.0.9:40000".parse().unwrap(),
        local: "10.0.0.1:9080".parse().unwrap(),
        identity: identity.map(|text| text.parse().unwrap()),
        workload: None,
        tls: None,
    }
}

const SERVICE: &str = "10.96.0.1:9080";

fn outbound() -> Entry<'static> {
    Entry::Outbound { destination: SERVICE.parse().unwrap() }
}

fn gateway(tls: bool) -> Entry<'static> {
    Entry::Gateway { port: 8080, routes: "http.8080", tls }
}

fn step(
    decide: &mut Decide,
    snapshot: &Snapshot,
    entry: Entry<'_>,
    head: &RequestHead,
    dice: &mut Dice,
) -> Decision {
    let peer = peer(None);
    let request = Request { snapshot, entry, peer: &peer, head, now: Instant::now() };
    decide.step(&request, dice, &mut Trail::off())
}

fn decide(snapshot: &Snapshot, entry: Entry<'_>, head: &RequestHead) -> Decision {
    step(&mut Decide::new(), snapshot, entry, head, &mut Dice::seeded(7))
}

#[track_caller]
fn plan(decision: Decision) -> Box<Plan> {
    match decision {
        Decision::Forward(plan) => plan,
        other => panic!("not forwarded: {other:?}"),
    }
}

#[track_caller]
fn answer(decision: Decision) -> Box<Answer> {
    match decision {
        Decision::Answer(answer) => answer,
        other => panic!("not answered: {other:?}"),
    }
}

fn location(answer: &Answer) -> &str {
    answer.headers.get_str("location").unwrap()
}

/// The route that takes `line` from the application, or the status of the answer.
fn route_of(snapshot: &Snapshot, line: &str, fields: &[(&str, &str)]) -> String {
    match decide(snapshot, outbound(), &head(line, fields)) {
        Decision::Forward(plan) => plan.route_name.to_string(),
        Decision::Answer(answer) => answer.status.to_string(),
        other => format!("{other:?}"),
    }
}
