//! Deciding a route with the pure half alone: no runtime, no sockets, no clock of its own.
//!
//! `cargo run -p mesh-core --example decide`

use std::time::Instant;

use mesh_core::decide::{Decide, Entry, Peer, Request, Trail};
use mesh_core::dice::Dice;
use mesh_core::message::{Headers, Method, RequestHead, Scheme, Version};
use mesh_core::model::Resource;
use mesh_core::name::Host;
use mesh_core::snapshot::{Config, compile};

/// What the control plane would send: a table with one rule, and the cluster it names.
const RESOURCES: &str = r#"[
  {"routes": {"name": "reviews:9080", "virtualHosts": [{"name": "reviews", "hosts": ["reviews"], "rules": [
    {"name": "v2-for-testers", "matches": [{"headers": [{"name": "end-user", "value": {"exact": "jason"}}]}],
     "action": {"forward": [{"cluster": "outbound|9080|v2|reviews", "weight": 100}]},
     "origin": {"kind": "VirtualService", "namespace": "default", "name": "reviews", "field": "spec.http[0]"}}]}]}},
  {"cluster": {"name": "outbound|9080|v2|reviews", "service": "reviews", "serviceName": "reviews",
    "serviceNamespace": "default", "port": 9080, "subset": "v2", "protocol": "http"}}
]"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resources: Vec<Resource> = serde_json::from_str(RESOURCES)?;
    let (snapshot, problems) = compile(None, &resources.into_iter().collect::<Config>());
    assert!(problems.is_empty(), "{problems:?}");

    let mut headers = Headers::default();
    headers.append("end-user", "jason");
    let (method, scheme, version) = (Method::GET, Scheme::Http, Version::Http11);
    let (host, authority, path) = (Host::parse("reviews")?, "reviews:9080".into(), "/reviews/0".into());
    let head =
        RequestHead { method, scheme, host, authority, path, query: None, version, headers, upgrade: None };
    let (address, local) = ("10.244.0.5:40000".parse()?, "10.96.0.7:9080".parse()?);
    let peer = Peer { address, local, identity: None, workload: None, tls: None };
    let entry = Entry::Outbound { destination: local };
    let request = Request { snapshot: &snapshot, entry, peer: &peer, head: &head, now: Instant::now() };

    let mut trail = Trail::on();
    let decision = Decide::new().step(&request, &mut Dice::seeded(1), &mut trail);
    trail.notes().iter().for_each(|note| eprintln!("{:?}: {}", note.kind, note.text));
    eprintln!("{decision:#?}");
    Ok(())
}
