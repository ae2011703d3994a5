//! Whole manifests in, model out.

mod bookinfo;
mod delegates;
mod destination_rules;
mod egress;
mod forwarding;
mod gateways;
mod ingress;
mod limits;
mod manifests;
mod mesh_config;
mod peers;
mod rules;
mod slices;
mod telemetry;
mod tokens;
mod virtual_services;
mod visibility;
mod workloads;

use std::path::Path;

use mesh_core::model::{Action, Endpoint, EndpointAddress, Host, Resource, Role, Root, Routes};
use mesh_core::wire::decode;

use crate::source::Change;
use crate::source::files::load_text;
use crate::view::{Proxy, View};
use crate::world::World;

/// A view of some YAML.
pub(crate) fn view(yaml: &str) -> View {
    let mut world = World::default();
    let loaded = load_text(Path::new("t.yaml"), yaml);
    let refused: Vec<_> = loaded.refused.iter().map(|refusal| refusal.problem.to_string()).collect();
    assert_eq!(refused, Vec::<String>::new());
    world.apply(Change::from(loaded));
    View::new(world, 1)
}

/// A service on port 80 named `http`, with pods of the same `app` that run a proxy, one per version.
pub(crate) fn service(name: &str, port: u16, versions: &[&str]) -> String {
    let mut yaml = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: {port}}}]}}\n---\n"
    );
    for (at, version) in versions.iter().enumerate() {
        let address = name.bytes().fold(at, |sum, byte| sum + usize::from(byte)) % 200;
        yaml += &pod(
            &format!("{name}-{version}"),
            &format!("app: {name}, version: {version}"),
            &format!("10.244.{at}.{address}"),
        );
    }
    yaml
}

pub(crate) fn pod(name: &str, labels: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  uid: u-{name}\n  labels: {{{labels}}}\n  \
         annotations: {{sidecar.istio.io/status: injected}}\nspec:\n  containers: [{{name: c}}]\n\
         status:\n  podIP: {address}\n  conditions: [{{type: Ready, status: \"True\"}}]\n---\n"
    )
}

pub(crate) fn gateway_pod(label: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: gw\n  namespace: istio-system\n  uid: u-gw\n  \
         labels: {{istio: {label}}}\n  annotations: {{inject.istio.io/templates: gateway}}\n\
         spec:\n  containers: [{{name: istio-proxy}}]\nstatus: {{podIP: 10.244.9.9}}\n---\n"
    )
}

pub(crate) fn sidecar(pod: &str) -> Proxy {
    proxy(Role::Sidecar, "default", pod)
}

pub(crate) fn proxy(role: Role, namespace: &str, pod: &str) -> Proxy {
    Proxy { role, namespace: namespace.into(), pod: pod.into(), service_account: "default".into() }
}

/// The closure of a root, decoded.
pub(crate) fn closure(view: &View, proxy: &Proxy, root: &Root) -> Option<Vec<Resource>> {
    let members = view.closure(proxy, root)?;
    Some(members.iter().map(|member| decode(&member.body).unwrap()).collect())
}

/// The endpoints of the first cluster of what a proxy asks for; none if there is no such thing.
fn endpoints(view: &View, proxy: &Proxy, root: &Root) -> Vec<Endpoint> {
    let of = |resource: Resource| match resource {
        Resource::Endpoints(endpoints) => Some(endpoints.endpoints),
        _ => None,
    };
    closure(view, proxy, root).unwrap_or_default().into_iter().find_map(of).unwrap_or_default()
}

fn address(endpoint: &Endpoint) -> String {
    match &endpoint.address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Name(host, port) => format!("{host}:{port}"),
    }
}

pub(crate) fn host_root(host: &str, port: u16) -> Root {
    Root::Host { host: Host::parse(host).unwrap(), port }
}

pub(crate) fn tables(resources: &[Resource]) -> Vec<&Routes> {
    let mut tables = Vec::new();
    for resource in resources {
        if let Resource::Routes(table) = resource {
            tables.push(table);
        }
    }
    tables
}

/// Rules of a table in short: `host match -> cluster*weight …`.
pub(crate) fn short(table: &Routes) -> Vec<String> {
    let mut lines = Vec::new();
    for host in &table.virtual_hosts {
        let hosts: Vec<_> = host.hosts.iter().map(ToString::to_string).collect();
        if host.rules.is_empty() {
            lines.push(format!("{} redirect={}", hosts.join(","), host.https_redirect));
        }
        for rule in &host.rules {
            let paths: Vec<_> = rule
                .matches
                .iter()
                .map(|m| {
                    let headers: Vec<_> =
                        m.headers.iter().map(|h| format!(" {}={:?}", h.name, h.value)).collect();
                    format!("{:?}{}", m.path, headers.concat())
                })
                .collect();
            let action = match &rule.action {
                Action::Forward(backends) => {
                    let to: Vec<_> =
                        backends.iter().map(|b| format!("{}*{}", b.cluster, b.weight.0)).collect();
                    to.join(" ")
                }
                other => format!("{other:?}"),
            };
            lines.push(format!("{} [{}] -> {action}", hosts.join(","), paths.join(" | ")));
        }
    }
    lines
}
