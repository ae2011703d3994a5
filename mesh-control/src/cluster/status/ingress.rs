//! `status.loadBalancer` of Ingresses: the addresses of the gateway's Service.

use std::collections::BTreeMap;

use kube::Client;
use serde_json::{Value, json};

use crate::api::core::Service;
use crate::api::ingress::Ingress;
use crate::cluster::request::{Method, RequestError, send};
use crate::translate::ingress::is_ours;
use crate::world::World;

/// The label that selects the pods of the ingress gateway.
const GATEWAY: (&str, &str) = ("istio", "ingressgateway");

/// What was written last, by namespace and name.
#[derive(Default)]
pub(super) struct Addresses {
    written: BTreeMap<(String, String), Value>,
}

impl Addresses {
    pub(super) async fn round(&mut self, client: &Client, world: &World) {
        let Ok(addresses) = gateway(client, world).await else { return };
        let ours: Vec<_> = world.all::<Ingress>().filter(|ingress| is_ours(world, ingress)).collect();
        let name = |(namespace, name): (&str, &str)| (namespace.to_owned(), name.to_owned());
        for ingress in &ours {
            let key = name((ingress.namespace(), ingress.name()));
            if self.written.get(&key) == Some(&addresses) {
                continue;
            }
            match write(client, &key, &addresses).await {
                Ok(()) => drop(self.written.insert(key, addresses.clone())),
                Err(error) => {
                    tracing::debug!(ingress = ?key, error = &error as &dyn std::error::Error, "its address cannot be written");
                }
            }
        }
        self.written
            .retain(|key, _| ours.iter().any(|ingress| *key == name((ingress.namespace(), ingress.name()))));
    }
}

async fn write(
    client: &Client,
    (namespace, name): &(String, String),
    addresses: &Value,
) -> Result<(), RequestError> {
    let path = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/{name}");
    let now = send(client, Method::Get, &path, None).await?;
    let before = now["status"]["loadBalancer"].get("ingress").cloned().unwrap_or_else(|| json!([]));
    if before == *addresses {
        return Ok(());
    }
    let patch = json!({"status": {"loadBalancer": {"ingress": addresses}}});
    send(client, Method::Merge, &format!("{path}/status"), Some(&patch)).await.map(drop)
}

/// Addresses of the Services that select the ingress gateway: the load balancer's, else those it is given from outside.
async fn gateway(client: &Client, world: &World) -> Result<Value, RequestError> {
    let selects = |service: &crate::api::Item<'_, Service>| {
        service.selector.get(GATEWAY.0).is_some_and(|value| value == GATEWAY.1)
    };
    let mut addresses = Vec::new();
    for service in world.all::<Service>().filter(selects) {
        let path = format!("/api/v1/namespaces/{}/services/{}", service.namespace(), service.name());
        let now = send(client, Method::Get, &path, None).await?;
        let balanced = now["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
        addresses.extend(balanced.map(|address| {
            let known = ["ip", "hostname"].iter().filter_map(|name| Some((*name, address.get(*name)?)));
            json!(known.collect::<BTreeMap<_, _>>())
        }));
        addresses.extend(service.external_ips.iter().map(|ip| json!({"ip": ip})));
    }
    Ok(Value::Array(addresses))
}
