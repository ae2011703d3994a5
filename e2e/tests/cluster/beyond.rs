//! The world outside of a mesh in a cluster: pods without a proxy, under names that those know who ask the resolver of
//! `e2e/fixtures/cluster/names.yaml`. Callers and the egress gateway are told to, and to trust its authority; the cluster's
//! own resolver and the nodes' authorities are left alone.

use serde_json::{Value, json};

use crate::kubectl;
use crate::mesh::Mesh;

const NAMES: &str = "cluster/names.yaml";
/// Where the authority of the certificates outside is.
const AUTHORITY: &str = "outside-ca";
const CALLERS: [&str; 2] = ["deployment/shop", "deployment/payments"];
const GATEWAY: [&str; 3] = ["-n", "istio-system", "deployment/istio-egressgateway"];
const SCALER: [&str; 3] = ["-n", "istio-system", "horizontalpodautoscaler/istio-egressgateway"];

/// A mesh whose egress gateway, one instance of it, knows this world; it is as it was when dropped.
pub(crate) struct Beyond {
    fewest: Value,
    pub(crate) mesh: Mesh,
}

impl Beyond {
    /// The mesh with these workloads; none without a cluster.
    pub(crate) fn up(workloads: &[&str]) -> Option<Self> {
        let mesh = Mesh::up(&[&[NAMES], workloads].concat())?;
        let resolver = kubectl::read(&["get", "service", "-n", "default", "names"]);
        let resolver = resolver["spec"]["clusterIP"].as_str().expect("a Service has an address").to_owned();
        for caller in CALLERS {
            let target = ["-n", "default", caller];
            patch(&target, &knowing(&resolver, Some("auto")));
            kubectl::rolled_out(&target);
        }
        let fewest = kubectl::read(&[&["get"], &SCALER[..]].concat())["spec"]["minReplicas"].clone();
        let this = Self { fewest, mesh };
        // What it counts and limits is its own; scenarios look at all of it.
        scale(&json!(1));
        kubectl::expect(&[&["scale", "--replicas=1"], &GATEWAY[..]].concat());
        patch(&GATEWAY, &knowing(&resolver, None));
        kubectl::rolled_out(&GATEWAY);
        Some(this)
    }
}

impl Drop for Beyond {
    fn drop(&mut self) {
        kubectl::expect(&[&["rollout", "undo"], &GATEWAY[..]].concat());
        scale(&self.fewest);
        kubectl::rolled_out(&GATEWAY);
    }
}

fn scale(fewest: &Value) {
    patch(&SCALER, &json!({"spec": {"minReplicas": fewest}}));
}

fn patch(target: &[&str], change: &Value) {
    kubectl::expect(&[&["patch"], target, &["-p", &change.to_string()]].concat());
}

/// A Deployment's pods ask this resolver, and their proxy trusts the authority outside. A proxy that is yet to be injected
/// has an image that stands for any.
fn knowing(resolver: &str, image: Option<&str>) -> Value {
    let mut proxy = json!({
        "name": "istio-proxy",
        "env": [{"name": "MESH_EXTRA_ROOTS", "value": "/etc/beyond/ca.crt"}],
        "volumeMounts": [{"name": "beyond", "mountPath": "/etc/beyond"}],
    });
    if let Some(image) = image {
        proxy["image"] = json!(image);
    }
    let searches = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"];
    let options = json!([{"name": "ndots", "value": "5"}]);
    json!({"spec": {"template": {"spec": {
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": [resolver], "searches": searches, "options": options},
        "containers": [proxy],
        "volumes": [{"name": "beyond", "secret": {"secretName": AUTHORITY}}],
    }}}})
}
