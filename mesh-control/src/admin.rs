//! Pages for probes, people and Prometheus: `/ready`, `/live`, `/status`, `/objects`, `/metrics`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use mesh_core::daemon::{Admin, Page};
use serde_json::json;

use crate::api::Key;
use crate::problem::ObjectRef;
use crate::serve::Plane;

/// The pages of a plane.
pub fn pages(plane: &Arc<Plane>) -> Admin {
    let [ready, status, objects, metrics] = std::array::from_fn(|_| Arc::clone(plane));
    Admin::default()
        .get("/ready", move |_| Page::probe(is_ready(&ready)))
        // Pages are served on the thread that everything else is, so an answer says that it is not stuck.
        .get("/live", |_| Page::text("ok\n"))
        .get("/status", move |_| Page::json(&self::status(&status)))
        .get("/objects", move |_| Page::json(&self::objects(&objects)))
        .get("/metrics", move |_| Page::open_metrics(self::metrics(&metrics)))
}

fn is_ready(plane: &Plane) -> Result<(), String> {
    if plane.view().generation() == 0 { Err("the objects have not been read yet".to_owned()) } else { Ok(()) }
}

/// Proxies with what they hold, the generation of the world and the source's revision behind it, and problems of objects
/// with the generation that they were found in.
fn status(plane: &Plane) -> serde_json::Value {
    // Before the view, so that the view is at least as new.
    let revision = plane.revision();
    let (generation, judged) = (plane.view().generation(), plane.judged());
    let standing = plane.standing();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": revision,
        "generation": generation,
        "proxies": plane.registry().list(),
        "judged": judged.generation(),
        "problems": judged.problems(),
        "authority": {
            "phase": standing.phase,
            "signer": standing.authority.id(),
            "trusts": standing.id,
            "expires": standing.authority.expires().unix_timestamp(),
            "refused": plane.refused_authority(),
        },
    })
}

/// Every object's name with its number of problems. What objects say may be secret and is not shown.
fn objects(plane: &Plane) -> serde_json::Value {
    let (view, judged) = (plane.view(), plane.judged());
    let mut counts: HashMap<&ObjectRef, usize> = HashMap::new();
    for object in judged.problems().iter().filter_map(|problem| problem.object.as_deref()) {
        *counts.entry(object).or_default() += 1;
    }
    let count = |key: &Key| counts.get(&ObjectRef::from(key)).copied().unwrap_or_default();
    view.world().objects().map(|object| (object.key.to_string(), json!(count(&object.key)))).collect()
}

/// The few numbers that dashboards of Istio's control plane look for.
fn metrics(plane: &Plane) -> String {
    let view = plane.view();
    let proxies = plane.registry().list();
    let behind = proxies.iter().filter(|proxy| !proxy.in_sync).count();
    let refusing = proxies.iter().filter(|proxy| !proxy.refused.is_empty()).count();
    let mut text = String::new();
    let numbers = [
        ("pilot_xds", "Proxies that are connected.", proxies.len()),
        ("mesh_control_proxies_behind", "Proxies to which something is under way.", behind),
        ("mesh_control_proxies_refusing", "Proxies that refused part of their last update.", refusing),
        ("pilot_services", "Services that are known.", view.catalog().len()),
        ("mesh_control_objects", "Objects that are known.", view.world().objects().count()),
        (
            "mesh_control_authority_refused",
            "1 while the certificate authority that was supplied is not usable and the one before it stays in force.",
            usize::from(plane.refused_authority().is_some()),
        ),
        ("mesh_control_problems", "Problems of objects.", plane.judged().problems().len()),
    ];
    for (name, help, value) in numbers {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    let _ = writeln!(
        text,
        "# HELP mesh_control_generation Changes of the world since the start.\n\
         # TYPE mesh_control_generation gauge\nmesh_control_generation {}",
        view.generation()
    );
    let expiry = plane.standing().authority.expires().unix_timestamp();
    let _ = writeln!(
        text,
        "# HELP citadel_server_root_cert_expiry_timestamp When the certificate authority in force expires, seconds since 1970.\n\
         # TYPE citadel_server_root_cert_expiry_timestamp gauge\ncitadel_server_root_cert_expiry_timestamp {expiry}",
    );
    text.push_str("# EOF\n");
    text
}
