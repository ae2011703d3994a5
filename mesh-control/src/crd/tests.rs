use std::path::PathBuf;

use super::*;

fn of(kind: Kind) -> Value {
    let all = definitions().unwrap();
    all.into_iter().find(|definition| definition["spec"]["names"]["kind"] == kind.as_str()).unwrap()
}

fn spec(kind: Kind) -> Value {
    of(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// The chart's files; `UPDATE=1` rewrites them.
#[test]
fn the_charts_definitions_are_those_of_the_types() {
    let chart = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy/charts/mesh");
    let mut stale = Vec::new();
    for definition in definitions().unwrap() {
        let name = definition["metadata"]["name"].as_str().unwrap();
        let folder = if is_own(&definition) { "templates" } else { "crds" };
        let file = chart.join(folder).join(format!("{name}.yaml"));
        let text = format!(
            "# Generated from mesh-control/src/api: UPDATE=1 cargo test -p mesh-control --lib crd\n{}",
            serde_saphyr::to_string(&definition).unwrap()
        );
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != text {
            stale.push(file);
        }
    }
    assert!(stale.is_empty(), "UPDATE=1 rewrites {stale:?}");
}

#[test]
fn a_definition_serves_every_version_we_read_and_stores_the_first() {
    let service = of(Kind::VirtualService);
    assert_eq!(service["metadata"]["name"], "virtualservices.networking.istio.io");
    let versions = service["spec"]["versions"].as_array().unwrap();
    let names: Vec<_> = versions.iter().map(|version| version["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["v1", "v1beta1", "v1alpha3"]);
    assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1);
    for (kind, plural) in [
        (Kind::Gateway, "gateways"),
        (Kind::ServiceEntry, "serviceentries"),
        (Kind::WorkloadEntry, "workloadentries"),
        (Kind::AuthorizationPolicy, "authorizationpolicies"),
        (Kind::Telemetry, "telemetries"),
    ] {
        assert_eq!(of(kind)["spec"]["names"]["plural"], plural);
    }
}

#[test]
fn fields_have_the_schema_of_what_reads_them() {
    let service = spec(Kind::VirtualService);
    let route = &service["properties"]["http"]["items"]["properties"];
    assert_eq!(route["timeout"], json!({"type": "string"}));
    assert_eq!(route["match"]["items"]["properties"]["uri"]["maxProperties"], 1);
    let port =
        &route["route"]["items"]["properties"]["destination"]["properties"]["port"]["properties"]["number"];
    assert_eq!(port["maximum"], 65535);
    let mode = &spec(Kind::PeerAuthentication)["properties"]["mtls"]["properties"]["mode"];
    assert_eq!(mode["enum"], json!(["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]));
}

#[test]
fn what_we_do_not_know_is_kept_in_foreign_kinds_only() {
    assert_eq!(spec(Kind::VirtualService)["x-kubernetes-preserve-unknown-fields"], true);
    assert!(!spec(Kind::RateLimit).to_string().contains("preserve-unknown-fields"));
}

#[test]
fn aliases_have_the_schema_of_their_field() {
    let rule = &spec(Kind::RequestAuthentication)["properties"]["jwtRules"]["items"]["properties"];
    assert_eq!(rule["jwks_uri"], rule["jwksUri"]);
    assert_eq!(rule["jwksUri"]["type"], "string");
}

/// Structural: every node has a type, or is one of the two that may go without.
#[test]
fn every_schema_is_structural() {
    fn walk(schema: &Value, at: &str) {
        let free = schema["x-kubernetes-preserve-unknown-fields"] == true
            || schema["x-kubernetes-int-or-string"] == true;
        assert!(schema["type"].is_string() || free, "{at}: {schema}");
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{at}.{name}"));
        }
        for part in ["items", "additionalProperties"] {
            if schema[part].is_object() {
                walk(&schema[part], &format!("{at}[]"));
            }
        }
        assert!(schema["type"] != "array" || schema["items"].is_object(), "{at} has no items");
    }
    for definition in definitions().unwrap() {
        walk(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "");
    }
}
