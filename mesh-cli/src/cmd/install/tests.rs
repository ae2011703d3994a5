use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::*;

/// Values that switch every condition at least once.
const CASES: [&str; 3] = [
    "control.replicas=2",
    "besideIstio=true,networkPolicies=false,image.tag=1.2",
    "monitors=true,ingress.serviceType=ClusterIP,egress.enabled=false,control.resources.limits.memory=2Gi",
];

fn chart_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/charts/mesh")
}

fn documents(text: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}

fn rendered(settings: &str) -> Vec<Value> {
    let mut values = Values::defaults();
    values.set(settings).unwrap();
    let texts = chart::TEMPLATES.iter().map(|(file, template)| match render::render(template, &values) {
        Ok(text) => text,
        Err(error) => panic!("{file}: {error:#}"),
    });
    texts.flat_map(|text| documents(&text)).collect()
}

fn sorted(mut documents: Vec<Value>) -> Vec<Value> {
    documents.sort_by_key(|one| {
        format!("{} {} {}", one["kind"], one["metadata"]["namespace"], one["metadata"]["name"])
    });
    documents
}

fn find<'d>(documents: &'d [Value], kind: &str, name: &str) -> Option<&'d Value> {
    documents.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name)
}

#[test]
fn every_template_of_the_chart_is_built_in() {
    let mut files: Vec<String> = std::fs::read_dir(chart_folder().join("templates"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, chart::TEMPLATES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn what_is_printed_is_what_helm_makes_of_the_chart() {
    let helm = std::env::var_os("MESH_HELM").unwrap_or_else(|| "helm".into());
    if Command::new(&helm).arg("version").output().is_err() {
        let required =
            std::env::var("MESH_REQUIRE").is_ok_and(|list| list.split(',').any(|name| name == "helm"));
        assert!(!required, "MESH_REQUIRE asks for helm, which is not here");
        eprintln!("SKIPPED: no helm; MESH_HELM names one");
        return;
    }
    for settings in CASES {
        let output = Command::new(&helm)
            .args(["template", "mesh"])
            .arg(chart_folder())
            .args(["--set", settings])
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let theirs = sorted(documents(&String::from_utf8(output.stdout).unwrap()));
        let ours = sorted(rendered(settings));
        assert_eq!(ours.len(), theirs.len(), "{settings}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{settings}");
        }
    }
}

/// `UPDATE=1` rewrites it.
#[test]
fn the_schema_of_the_values_is_that_of_their_defaults() {
    let defaults: Value = serde_saphyr::from_str(chart::VALUES).unwrap();
    let mut schema = schema_of(&defaults, "");
    schema["$schema"] = "https://json-schema.org/draft-07/schema#".into();
    schema["properties"]["global"] = json!({"type": "object"});
    let text = format!("{schema:#}\n");
    let file = chart_folder().join("values.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), text, "UPDATE=1 rewrites it");
}

fn schema_of(value: &Value, name: &str) -> Value {
    match value {
        Value::Object(_) if name == "resources" => json!({"type": "object"}),
        Value::Object(members) => {
            let properties: serde_json::Map<_, _> =
                members.iter().map(|(name, value)| (name.clone(), schema_of(value, name))).collect();
            json!({"type": "object", "additionalProperties": false, "properties": properties})
        }
        Value::Bool(_) => json!({"type": "boolean"}),
        Value::Number(_) => json!({"type": "integer", "minimum": 0}),
        _ if name == "serviceType" => json!({"enum": ["LoadBalancer", "NodePort", "ClusterIP"]}),
        // Helm reads `--set image.tag=1.2` as a number.
        _ if name == "tag" => json!({"type": ["string", "number"]}),
        _ => json!({"type": "string"}),
    }
}

#[test]
fn a_gateway_has_the_ports_of_nodes_that_are_asked_for() {
    let ports = |settings: &str| {
        let all = rendered(settings);
        let service = find(&all, "Service", "istio-ingressgateway").unwrap();
        let ports = service["spec"]["ports"].as_array().unwrap().iter();
        ports.map(|port| port["nodePort"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ports("monitors=false"), [Value::Null, Value::Null]);
    assert_eq!(ports("ingress.nodePorts.http=30080"), [json!(30080), Value::Null]);
}

#[test]
fn settings_that_do_not_exist_are_refused_by_name() {
    let refused = |setting| Values::defaults().set(setting).unwrap_err().to_string();
    assert!(refused("control.replica=3").starts_with("`control.replica` is no setting"));
    assert_eq!(refused("monitors=perhaps"), "`monitors` must be true or false");
    assert_eq!(refused("control=3"), "`control` must be an object");
    assert_eq!(refused("monitors"), "`monitors` is not NAME=VALUE");
}

#[test]
fn what_the_chart_may_not_use_is_an_error() {
    for template in [
        "{{- range .Values.a }}",
        "{{- end }}",
        "{{- if .Values.monitors }}",
        "a: {{ .Release.Name }}",
        "a: {{ .Values.x }}",
    ] {
        assert!(render::render(template, &Values::defaults()).is_err(), "{template}");
    }
}

#[test]
fn a_dead_control_plane_stops_no_unrelated_pod() {
    let all = rendered("monitors=false");
    let webhooks = find(&all, "MutatingWebhookConfiguration", "mesh-injection").unwrap()["webhooks"].clone();
    for webhook in webhooks.as_array().unwrap() {
        let namespaces = webhook["namespaceSelector"]["matchExpressions"].to_string();
        for never in ["kube-system", "mesh-system"] {
            assert!(namespaces.contains(never), "{webhook}");
        }
        // Each asks for a label that somebody has set, on the namespace or on the pod.
        let asked = |selector: &str| {
            let expressions = webhook[selector]["matchExpressions"].as_array().unwrap();
            expressions
                .iter()
                .any(|one| one["operator"] == "In" && one["key"] != "kubernetes.io/metadata.name")
        };
        assert!(asked("namespaceSelector") || asked("objectSelector"), "{webhook}");
    }
    let validation = find(&all, "ValidatingWebhookConfiguration", "mesh-validation").unwrap();
    assert_eq!(validation["webhooks"][0]["failurePolicy"], "Ignore");
}

#[test]
fn only_the_control_plane_reads_secrets_and_nobody_may_do_everything() {
    let all = rendered("monitors=false");
    let bindings =
        all.iter().filter(|one| one["kind"].as_str().is_some_and(|kind| kind.ends_with("RoleBinding")));
    for subject in bindings.flat_map(|one| one["subjects"].as_array().unwrap()) {
        assert_eq!(subject["name"], "mesh-control");
    }
    for role in all.iter().filter(|one| one["kind"].as_str().is_some_and(|kind| kind.ends_with("Role"))) {
        for rule in role["rules"].as_array().unwrap() {
            assert!(!rule["verbs"].to_string().contains('*'), "{rule}");
            assert!(!rule["apiGroups"].to_string().contains("\"*\""), "{rule}");
        }
    }
}

/// The gateways are written out in the chart, and completed by injection elsewhere: one proxy, the same way of starting it.
#[test]
fn the_charts_gateways_start_as_injected_ones_do() {
    let all = rendered("monitors=false");
    for (name, label) in
        [("istio-ingressgateway", "ingressgateway"), ("istio-egressgateway", "egressgateway")]
    {
        let pod = json!({
            "metadata": {"labels": {"istio": label}, "annotations": {"inject.istio.io/templates": "gateway"}},
            "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
        });
        let namespace = mesh_control::inject::Namespace { name: "edge".to_owned(), labels: None };
        let outcome =
            mesh_control::inject::inject(&pod, &namespace, &mesh_control::inject::Settings::default());
        let Ok(mesh_control::inject::Outcome::Injected(injected)) = outcome else { panic!("{outcome:?}") };
        let written = &find(&all, "Deployment", name).unwrap()["spec"]["template"]["spec"];
        let (ours, theirs) = (&injected.pod["spec"]["containers"][0], &written["containers"][0]);
        for part in ["command", "env", "volumeMounts"] {
            assert_eq!(ours[part], theirs[part], "{name} {part}");
        }
        assert_eq!(injected.pod["spec"]["volumes"], written["volumes"], "{name}");
    }
}
