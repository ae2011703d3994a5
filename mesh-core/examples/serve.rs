//! Serving traffic with the engine alone: a gateway on port 8080 that splits requests between two local upstreams.
//!
//! `cargo run -p mesh-core --example serve --features engine`, then `curl -H 'host: shop.example' localhost:8080/`

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_core::engine::{Demand, Engine, Handles, Settings};
use mesh_core::model::Resource;
use mesh_core::snapshot::{Config, compile};
use mesh_core::telemetry::Sinks;

/// What the control plane would send: what we are, a route table, a cluster and its endpoints.
const RESOURCES: &str = r#"[
  {"own": {"role": "ingress", "identity": "spiffe://cluster.local/ns/default/sa/gateway", "workload": {},
    "mesh": {"trustDomain": "cluster.local", "drainTimeout": 5000},
    "outboundPolicy": "registryOnly",
    "listeners": [{"port": 8080, "protocol": "http", "routes": "http.8080"}]}},
  {"routes": {"name": "http.8080", "virtualHosts": [{"name": "shop", "hosts": ["shop.example"], "rules": [
    {"action": {"forward": [{"cluster": "outbound|80||shop", "weight": 1}]}, "timeout": 2000,
     "origin": {"kind": "VirtualService", "namespace": "default", "name": "shop", "field": "spec.http[0]"}}]}]}},
  {"cluster": {"name": "outbound|80||shop", "service": "shop", "serviceName": "shop", "serviceNamespace": "default",
    "port": 80, "protocol": "http"}},
  {"endpoints": {"cluster": "outbound|80||shop", "endpoints": [
    {"address": {"socket": "127.0.0.1:9001"}, "weight": 9, "transport": "plain", "workload": {}},
    {"address": {"socket": "127.0.0.1:9002"}, "weight": 1, "transport": "plain", "workload": {}}]}}
]"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let resources: Vec<Resource> = serde_json::from_str(RESOURCES)?;
    let (snapshot, problems) = compile(None, &resources.into_iter().collect::<Config>());
    assert!(problems.is_empty(), "{problems:?}");

    let sinks = Sinks::default();
    let handles = Handles {
        // Whoever replaces the snapshot calls `engine.changed()`: listeners and pools follow, connections stay.
        snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
        // A gateway never asks; a sidecar's questions would come out of the queue beside it.
        demand: Demand::channel().0,
        tls: Arc::default(),
        sinks: sinks.clone(),
    };
    let engine = Engine::start(Settings { mark: None, ..Settings::gateway(HashMap::new()) }, handles)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::signal::ctrl_c().await?;
        engine.drain(Duration::from_secs(5)).await;
        eprintln!("{}", sinks.metrics.expose()?);
        Ok(())
    })
}
