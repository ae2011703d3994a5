//! What the control plane says of itself, from all its replicas: each knows the proxies that are connected to it.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::list::list;
use super::{Remote, RemoteError, SYSTEM_NAMESPACE, forward};

/// Where the control plane's pages are.
pub const CONTROL_PORT: u16 = 15014;
/// Where a proxy's are.
pub const PROXY_PORT: u16 = 15000;

/// What one replica answers.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The pod's name.
    pub pod: String,
    /// Its `/status`, or why there is none.
    pub status: Result<Value, String>,
}

/// A Service with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<u16>,
    /// Where it can be reached from outside, `address:port`; of gateways' Services only.
    pub outside: Vec<String>,
}

impl Remote {
    /// The state of every replica of the control plane.
    ///
    /// # Errors
    /// When its pods cannot be listed.
    pub async fn replicas(&self) -> Result<Vec<Replica>, RemoteError> {
        let pods = self.control_pods().await?;
        let asked = pods.iter().map(|pod| async {
            let answer =
                forward::get(self.client(), SYSTEM_NAMESPACE, pod.name(), CONTROL_PORT, "/status").await;
            let status = match answer {
                Ok((200, body)) => serde_json::from_str(&body).map_err(|error| error.to_string()),
                Ok((code, body)) => Err(format!("it answers {code}: {}", body.trim())),
                Err(error) => Err(error.to_string()),
            };
            Replica { pod: pod.name().to_owned(), status }
        });
        Ok(join_all(asked).await)
    }

    /// Services of the cluster.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn services(&self) -> Result<Vec<ServiceView>, RemoteError> {
        let found = list(self.client(), "/api/v1/services", "").await?.unwrap_or_default();
        Ok(found.iter().map(service).collect())
    }

    /// A page of a proxy's admin port.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn proxy_admin(
        &self,
        namespace: &str,
        pod: &str,
        page: &str,
    ) -> Result<(u16, String), RemoteError> {
        forward::get(self.client(), namespace, pod, PROXY_PORT, page).await
    }
}

/// One state of what several replicas say; null if none does. Problems are those of the replica that has judged most.
pub fn merged(replicas: &[Replica]) -> Value {
    let answers: Vec<&Value> = replicas.iter().filter_map(|replica| replica.status.as_ref().ok()).collect();
    let Some(latest) = answers.iter().max_by_key(|answer| answer["generation"].as_u64()) else {
        return Value::Null;
    };
    let mut merged = (*latest).clone();
    let proxies = answers.iter().flat_map(|answer| answer["proxies"].as_array().into_iter().flatten());
    let mut proxies: Vec<Value> = proxies.cloned().collect();
    proxies.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    // A proxy that has just changed replicas may be known to both.
    proxies.dedup_by(|a, b| a["name"] == b["name"]);
    merged["proxies"] = proxies.into();
    merged["replicas"] = replicas
        .iter()
        .map(|Replica { pod, status }| match status {
            Ok(status) => json!({"pod": pod, "generation": status["generation"]}),
            Err(error) => json!({"pod": pod, "error": error}),
        })
        .collect();
    merged
}

fn service(object: &Value) -> ServiceView {
    let text = |place: &str| object.pointer(place).and_then(Value::as_str).unwrap_or_default();
    let ports: Vec<&Value> = object["spec"]["ports"].as_array().into_iter().flatten().collect();
    let number = |port: &Value, name: &str| port[name].as_u64().and_then(|it| u16::try_from(it).ok());
    ServiceView {
        namespace: text("/metadata/namespace").to_owned(),
        name: text("/metadata/name").to_owned(),
        ports: ports.iter().filter_map(|port| number(port, "port")).collect(),
        outside: if object["spec"]["selector"]["istio"] == "ingressgateway" {
            outside(object, &ports)
        } else {
            Vec::new()
        },
    }
}

/// The load balancer's addresses, else the nodes' ports, else the cluster's own address.
fn outside(object: &Value, ports: &[&Value]) -> Vec<String> {
    let balancers = object["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let addresses: Vec<&str> =
        balancers.filter_map(|one| one["ip"].as_str().or_else(|| one["hostname"].as_str())).collect();
    let at = |address: &str, name: &str| {
        let numbers = ports.iter().filter_map(|port| port[name].as_u64());
        numbers.map(|number| format!("{address}:{number}")).collect::<Vec<_>>()
    };
    if !addresses.is_empty() {
        return addresses.iter().flat_map(|address| at(address, "port")).collect();
    }
    let nodes = at("NODE", "nodePort");
    if nodes.is_empty() {
        at(object["spec"]["clusterIP"].as_str().unwrap_or_default(), "port")
    } else {
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_make_one_state_and_a_silent_one_is_named() {
        let answer = |generation: u64, names: &[&str], problems: Value| Replica {
            pod: format!("control-{generation}"),
            status: Ok(json!({"generation": generation, "problems": problems,
                "proxies": names.iter().map(|name| json!({"name": name})).collect::<Value>()})),
        };
        let silent = Replica { pod: "control-x".to_owned(), status: Err("refused".to_owned()) };
        let all = [
            answer(3, &["b.default"], json!(["old"])),
            answer(4, &["a.default", "b.default"], json!(["new"])),
            silent,
        ];
        let state = merged(&all);
        assert_eq!(state["proxies"], json!([{"name": "a.default"}, {"name": "b.default"}]));
        assert_eq!((&state["generation"], &state["problems"]), (&json!(4), &json!(["new"])));
        assert_eq!(state["replicas"][2], json!({"pod": "control-x", "error": "refused"}));
        assert_eq!(merged(&all[2..]), Value::Null);
    }

    #[test]
    fn a_gateway_is_reached_by_its_balancer_or_by_a_port_of_the_nodes() {
        let mut object = json!({"metadata": {"name": "gateway", "namespace": "istio-system"}, "spec": {
            "clusterIP": "10.96.0.9", "selector": {"istio": "ingressgateway"}, "ports": [{"port": 80, "nodePort": 30080}]}});
        assert_eq!(service(&object).outside, ["NODE:30080"]);
        object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
        assert_eq!(service(&object).outside, ["192.0.2.1:80"]);
        object["spec"]["selector"] = json!({"app": "web"});
        assert!(service(&object).outside.is_empty());
    }
}
