//! The containers and volumes that a pod gets.

use serde_json::{Map, Value, json};

use super::annotations::Wishes;
use super::{CAPTURE_CONTAINER, Mode, PROXY_CONTAINER, PROXY_USER, Settings};
use crate::tokens::AUDIENCE;

/// ConfigMap of every namespace with the mesh's root certificate, which the control plane writes.
pub const ROOT_CONFIG_MAP: &str = "mesh-root-cert";
/// Its key.
pub const ROOT_KEY: &str = "root-cert.pem";
const ROOT_FOLDER: &str = "/var/run/secrets/mesh";
const TOKEN_FOLDER: &str = "/var/run/secrets/tokens";
const TOKEN: &str = "mesh-token";
const STATE_FOLDER: &str = "/var/run/mesh";
/// How long a token lives, in seconds; the kubelet renews it at four fifths.
const TOKEN_LIFETIME: u32 = 3600;
/// For how many seconds a gateway, and a sidecar that is told to stop together with its application, serves after that (Istio's
/// default `terminationDrainDuration`).
const LINGER: &str = "5";

/// The sidecar's container.
pub(super) fn sidecar(wishes: &Wishes, settings: &Settings, probes: &Map<String, Value>) -> Value {
    let mut variables = variables(wishes, settings);
    variables.push(json!({"name": "MESH_CLUSTER_DOMAIN", "value": settings.cluster_domain}));
    variables.push(json!({"name": "MESH_UPSTREAM_RESOLV_CONF", "value": "/etc/resolv.conf"}));
    if !probes.is_empty() {
        let probes = Value::Object(probes.clone()).to_string();
        variables.push(json!({"name": "MESH_APP_PROBES", "value": probes}));
    }
    if settings.mode == Mode::Plain {
        // The application ends at the same time, and its last calls and answers go through us. A native sidecar ends after it.
        variables.push(json!({"name": "MESH_LINGER", "value": LINGER}));
    }
    let mut container = proxy(&["mesh-proxy", "run"], variables, wishes, settings);
    if settings.mode == Mode::Native {
        container["restartPolicy"] = "Always".into();
        // What comes after in the list of init containers waits for this one.
        container["startupProbe"] = json!({
            "httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 1, "failureThreshold": 600,
        });
    } else if wishes.hold.unwrap_or(settings.hold_application) {
        // The kubelet starts containers one after the other, and the next only when this one's hook has ended.
        container["lifecycle"]["postStart"]["exec"]["command"] = json!(["mesh-proxy", "wait"]);
    }
    container
}

/// A gateway's container.
pub(super) fn gateway(program: &str, wishes: &Wishes, settings: &Settings) -> Value {
    let wishes = Wishes { workers: wishes.workers.or(Some(0)), ..wishes.clone() };
    let mut variables = variables(&wishes, settings);
    // Where nodes forward to it, they learn only after it is told to stop that they should not.
    variables.push(json!({"name": "MESH_LINGER", "value": LINGER}));
    proxy(&[program], variables, &wishes, settings)
}

fn proxy(command: &[&str], variables: Vec<Value>, wishes: &Wishes, settings: &Settings) -> Value {
    let mut container = json!({
        "name": PROXY_CONTAINER,
        "image": settings.image,
        "command": command,
        "env": variables,
        "ports": [
            {"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": 15021}, "periodSeconds": 3, "timeoutSeconds": 3,
        },
        "resources": resources(wishes, settings),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": PROXY_USER,
            "runAsNonRoot": true,
            "runAsUser": PROXY_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [
            {"name": "mesh-root", "mountPath": ROOT_FOLDER, "readOnly": true},
            {"name": "mesh-token", "mountPath": TOKEN_FOLDER, "readOnly": true},
            {"name": "mesh-state", "mountPath": STATE_FOLDER},
        ],
    });
    set_pull_policy(&mut container, settings);
    container
}

fn set_pull_policy(container: &mut Value, settings: &Settings) {
    if !settings.pull_policy.is_empty() {
        container["imagePullPolicy"] = settings.pull_policy.as_str().into();
    }
}

fn variables(wishes: &Wishes, settings: &Settings) -> Vec<Value> {
    let own =
        |name: &str, field: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}});
    let given = |name: &str, value: String| json!({"name": name, "value": value});
    let mut variables = vec![
        own("POD_NAME", "metadata.name"),
        own("POD_NAMESPACE", "metadata.namespace"),
        own("POD_UID", "metadata.uid"),
        own("POD_IP", "status.podIP"),
        own("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        given("MESH_CONTROL", settings.control.clone()),
        given("MESH_CONTROL_ROOT", format!("{ROOT_FOLDER}/{ROOT_KEY}")),
        given("MESH_TOKEN_FILE", format!("{TOKEN_FOLDER}/{TOKEN}")),
        // A folder of its own in the volume, which it may make private.
        given("MESH_STATE_DIR", format!("{STATE_FOLDER}/proxy")),
    ];
    match wishes.workers {
        // The container's limit, rounded up, or its node's cores.
        Some(0) => variables.push(json!({
            "name": "MESH_WORKERS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}},
        })),
        Some(count) => variables.push(given("MESH_WORKERS", count.to_string())),
        None => {}
    }
    if let Some(filter) = &wishes.log {
        variables.push(given("MESH_LOG", filter.clone()));
    }
    variables
}

fn resources(wishes: &Wishes, settings: &Settings) -> Value {
    let defaults = &settings.resources;
    let asked = [&wishes.cpu, &wishes.memory, &wishes.cpu_limit, &wishes.memory_limit];
    // As in Istio: a pod that says anything about resources says everything, or its request could exceed our limit.
    let silent = asked.iter().all(|value| value.is_none());
    let value = |asked: &Option<String>, default: &str| {
        let value = asked.clone().unwrap_or_else(|| if silent { default.to_owned() } else { String::new() });
        Some(value).filter(|value| !value.is_empty())
    };
    let part = |cpu: Option<String>, memory: Option<String>| {
        let members = [("cpu", cpu), ("memory", memory)].into_iter();
        let members = members.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        Value::Object(members.collect())
    };
    let requests = part(value(&wishes.cpu, &defaults.cpu), value(&wishes.memory, &defaults.memory));
    let limits = part(
        value(&wishes.cpu_limit, &defaults.cpu_limit),
        value(&wishes.memory_limit, &defaults.memory_limit),
    );
    let parts = [("requests", requests), ("limits", limits)].into_iter();
    let parts = parts.filter(|(_, part)| part.as_object().is_some_and(|part| !part.is_empty()));
    Value::Object(parts.map(|(name, part)| (name.to_owned(), part)).collect())
}

/// The init container that programs the capture rules over netlink; the only one with a privilege.
pub(super) fn capture(wishes: &Wishes, settings: &Settings) -> Value {
    let mut command = vec!["mesh-proxy".to_owned(), "redirect".to_owned(), "--dns".to_owned()];
    command.push(format!("--uid={PROXY_USER}"));
    command.extend(wishes.capture.iter().cloned());
    let mut container = json!({
        "name": CAPTURE_CONTAINER,
        "image": settings.image,
        "command": command,
        "resources": resources(wishes, settings),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": false,
            "readOnlyRootFilesystem": true,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    set_pull_policy(&mut container, settings);
    container
}

/// What the containers mount: the root, the token, and memory for what outlives a restart of the container.
pub(super) fn volumes() -> Vec<Value> {
    let token = json!({"audience": AUDIENCE, "expirationSeconds": TOKEN_LIFETIME, "path": TOKEN});
    vec![
        json!({"name": "mesh-root", "configMap": {"name": ROOT_CONFIG_MAP}}),
        json!({"name": "mesh-token", "projected": {"sources": [{"serviceAccountToken": token}]}}),
        json!({"name": "mesh-state", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}),
    ]
}

/// Lets what a user wrote win over what is injected, field by field; lists of named things by name.
pub(super) fn override_with(container: &mut Value, overrides: Option<Value>) {
    let Some(Value::Object(mut overrides)) = overrides else { return };
    if overrides.get("image").is_some_and(|image| image == "auto") {
        overrides.remove("image");
        // For an image without a tag the API server has written `Always`, which nobody asked for.
        overrides.remove("imagePullPolicy");
    }
    merge(container, Value::Object(overrides));
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(over)) if over.iter().all(|item| item["name"].is_string()) => {
            for item in over {
                match base.iter_mut().find(|own| own["name"] == item["name"]) {
                    Some(own) => *own = item,
                    None => base.push(item),
                }
            }
        }
        (base, over) => *base = over,
    }
}
