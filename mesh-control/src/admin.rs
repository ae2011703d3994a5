//! The control plane's own pages: readiness, the state of synchronisation, objects and their problems, metrics.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_core::daemon::{Admin, Page};
use serde_json::json;

use crate::serve::Plane;

/// The pages. `ready` is set once the first world is in place.
pub fn pages(plane: &Arc<Plane>, ready: &Arc<AtomicBool>) -> Admin {
    let (status, objects, metrics) = (Arc::clone(plane), Arc::clone(plane), Arc::clone(plane));
    let ready = Arc::clone(ready);
    let is_ready = move || {
        if ready.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("the objects have not been read yet".to_owned())
        }
    };
    Admin::default()
        .get("/ready", move |_| Page::probe(is_ready()))
        .get("/status", move |_| Page::json(&state(&status)))
        .get("/objects", move |_| Page::json(&json!(objects.view().objects())))
        .get("/metrics", move |_| Page::open_metrics(exposition(&metrics)))
}

fn state(plane: &Plane) -> serde_json::Value {
    let view = plane.view();
    let problems: Vec<_> = view.problems().collect();
    json!({
        "generation": view.generation(),
        "proxies": plane.registry().list(),
        "problems": problems,
    })
}

fn exposition(plane: &Plane) -> String {
    let view = plane.view();
    let proxies = plane.registry().list();
    let behind = proxies.iter().filter(|proxy| !proxy.in_sync).count();
    let mut text = String::new();
    for (name, help, value) in [
        ("mesh_control_proxies", "Connected proxies", proxies.len()),
        ("mesh_control_proxies_behind", "Connected proxies with an update under way", behind),
        ("mesh_control_objects", "Objects known", view.world().objects().count()),
        ("mesh_control_problems", "Problems of objects", view.problems().count()),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
    }
    text.push_str("# EOF\n");
    text
}
