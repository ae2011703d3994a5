//! The objects of a large cluster: how they are named, and what is in them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// Namespaces that the services are spread over.
const NAMESPACES: usize = 10;

/// The namespace of objects that make no sense.
pub(super) const BAD_NAMESPACE: &str = "bad";

/// Of a VirtualService that an API server takes and nobody can use, in one of several ways.
pub(super) fn bad_spec(number: usize) -> Value {
    let host = format!("bad-{number}.example");
    let route = json!([{"destination": {"host": host}}]);
    let http = match number % 4 {
        0 => json!({"timeout": "soon", "route": route}),
        1 => json!({"match": [{"uri": {"regex": "("}}], "route": route}),
        2 => json!({"route": [{"destination": {"host": host, "subset": "missing"}, "weight": -1}]}),
        _ => json!({"redirect": {"uri": "/"}, "route": route}),
    };
    json!({"hosts": [host], "http": [http]})
}

/// Services `s0`, `s1` and so on, each with the same number of pods.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) services: usize,
    /// Of each service.
    pub(super) pods: usize,
}

pub(super) fn namespace(service: usize) -> String {
    format!("n{}", service % NAMESPACES)
}

pub(super) fn namespaces() -> impl Iterator<Item = String> {
    (0..NAMESPACES).map(namespace)
}

/// A service's name in the mesh.
pub(super) fn host(service: usize) -> String {
    format!("s{service}.{}.svc.cluster.local", namespace(service))
}

/// A pod of the service that no change touches.
pub(super) fn steady_pod(service: usize) -> String {
    format!("s{service}-steady")
}

impl Shape {
    /// A service with its pods as files hold them, the first pod as the instance of that number.
    pub(super) fn manifests(self, service: usize, instance: usize) -> String {
        let namespace = namespace(service);
        let mut text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{service}, namespace: {namespace}}}\n\
             spec: {{selector: {{app: s{service}}}, ports: [{{name: http, port: 80}}]}}\n"
        );
        for pod in 0..self.pods {
            let (name, address) = (pod_name(service, pod, instance), self.address(service, pod, instance));
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, uid: u-{name}, \
                 labels: {{app: s{service}}}}}\nspec: {{serviceAccountName: s{service}}}\n\
                 status: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
            );
        }
        text
    }

    pub(super) fn service(service: usize) -> Value {
        json!({
            "metadata": {"name": format!("s{service}")},
            "spec": {"selector": {"app": format!("s{service}")}, "ports": [{"name": "http", "port": 80}]},
        })
    }

    /// As a controller of workloads makes a pod.
    pub(super) fn pod(service: usize, pod: usize) -> Value {
        let app = format!("s{service}");
        json!({
            "metadata": {"name": pod_name(service, pod, 0), "labels": {"app": app}},
            "spec": {"serviceAccountName": app, "containers": [{"name": "app", "image": "app"}]},
        })
    }

    /// What a kubelet writes once a pod is ready.
    pub(super) fn pod_status(self, service: usize, pod: usize) -> Value {
        let address = self.address(service, pod, 0);
        json!({"status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }})
    }

    /// The service's slice: its pods, and one more endpoint by the instance's number.
    pub(super) fn slice(self, service: usize, instance: usize) -> Value {
        let of_pod = |pod: usize| {
            json!({
                "addresses": [self.address(service, pod, 0)], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": pod_name(service, pod, 0), "namespace": namespace(service)},
            })
        };
        let mut endpoints: Vec<_> = (0..self.pods).map(of_pod).collect();
        let elsewhere = nth(Ipv4Addr::new(192, 168, 0, 0), instance % (1 << 16));
        endpoints.push(json!({"addresses": [elsewhere], "conditions": {"ready": true}}));
        let labels = json!({"kubernetes.io/service-name": format!("s{service}")});
        json!({
            "metadata": {"name": format!("s{service}"), "labels": labels}, "addressType": "IPv4",
            "endpoints": endpoints, "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        })
    }

    /// Unique up to 4 million pods, and as many instances again; the mesh never dials them.
    fn address(self, service: usize, pod: usize, instance: usize) -> Ipv4Addr {
        let number = service * self.pods + pod + if pod == 0 { (instance % 2) << 22 } else { 0 };
        nth(Ipv4Addr::new(10, 0, 0, 0), number)
    }
}

fn nth(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    let number = u32::try_from(number).expect("no bench has as many pods as there are addresses");
    Ipv4Addr::from_bits(first.to_bits() + number)
}

pub(super) fn pod_name(service: usize, pod: usize, instance: usize) -> String {
    match pod {
        0 => format!("s{service}-{instance}"),
        1 => steady_pod(service),
        _ => format!("s{service}-x{pod}"),
    }
}
