//! Fields of which at most one may be set (`oneof` in the upstream definitions).
//!
//! The types keep them as plain options, so that unknown siblings are still found; this table is where the rule is.

use serde_json::Value;

use super::Kind;

/// Kind, trailing path of the object (indexes left out), and the fields that exclude each other.
const ALTERNATIVES: &[(Kind, &str, &[&str])] = &[
    (Kind::VirtualService, ".spec.http", &["route", "redirect", "directResponse", "delegate"]),
    (Kind::VirtualService, ".spec.http", &["mirror", "mirrors"]),
    (Kind::VirtualService, ".directResponse.body", &["string", "bytes"]),
    (Kind::VirtualService, ".fault.delay", &["fixedDelay", "exponentialDelay"]),
    (Kind::VirtualService, ".fault.abort", &["httpStatus", "grpcStatus", "http2Error"]),
    (Kind::VirtualService, ".redirect", &["port", "derivePort"]),
    (Kind::VirtualService, ".redirect", &["uri", "prefixRewrite"]),
    (Kind::VirtualService, ".rewrite", &["uri", "uriRegexRewrite"]),
    (Kind::DestinationRule, ".loadBalancer", &["simple", "consistentHash"]),
    (
        Kind::DestinationRule,
        ".loadBalancer.consistentHash",
        &["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"],
    ),
    (Kind::DestinationRule, ".loadBalancer.consistentHash", &["ringHash", "maglev"]),
    (Kind::DestinationRule, ".localityLbSetting", &["distribute", "failover"]),
    (Kind::ServiceEntry, ".spec", &["endpoints", "workloadSelector"]),
    (Kind::RequestAuthentication, ".spec", &["selector", "targetRef", "targetRefs"]),
    (Kind::RequestAuthentication, ".spec.jwtRules", &["jwks", "jwksUri"]),
    (Kind::AuthorizationPolicy, ".spec", &["selector", "targetRef", "targetRefs"]),
    (Kind::Telemetry, ".spec", &["selector", "targetRef", "targetRefs"]),
    (Kind::Telemetry, ".overrides.match", &["metric", "customMetric"]),
    (Kind::Telemetry, ".customTags.*", &["literal", "environment", "header", "formatter"]),
    (
        Kind::ConfigMap,
        ".mesh.extensionProviders",
        &[
            "envoyExtAuthzHttp",
            "envoyExtAuthzGrpc",
            "opentelemetry",
            "zipkin",
            "prometheus",
            "envoyFileAccessLog",
            "envoyOtelAls",
        ],
    ),
    (Kind::ConfigMap, ".mesh.localityLbSetting", &["distribute", "failover"]),
    (Kind::Ingress, ".backend", &["service", "resource"]),
    (Kind::Ingress, ".defaultBackend", &["service", "resource"]),
    (Kind::Ingress, ".service.port", &["name", "number"]),
];

/// The first place where two alternatives are set: its path and what is wrong there. `root` is the value's own path.
pub fn conflicting_alternatives(kind: Kind, value: &Value, root: &str) -> Option<(String, String)> {
    let rules: Vec<_> = ALTERNATIVES.iter().filter(|(k, ..)| *k == kind).collect();
    if rules.is_empty() {
        return None;
    }
    search(value, root, &format!(".{root}"), &|names, object| {
        rules.iter().filter(|(_, place, _)| ends_with(names, place)).find_map(|(.., fields)| {
            let set = |field: &&&str| object.get(**field).is_some_and(|value| !value.is_null());
            let both: Vec<&str> = fields.iter().filter(set).copied().collect();
            (both.len() > 1).then(|| {
                format!("only one of {} may be set, found {}", fields.join(", "), both.join(" and "))
            })
        })
    })
}

type Check<'a> = dyn Fn(&str, &serde_json::Map<String, Value>) -> Option<String> + 'a;

/// Walks in order of the source. `names` is the path without indexes, each name after a dot.
fn search(value: &Value, path: &str, names: &str, check: &Check<'_>) -> Option<(String, String)> {
    match value {
        Value::Array(items) => (0..)
            .zip(items)
            .find_map(|(index, item): (usize, _)| search(item, &format!("{path}[{index}]"), names, check)),
        Value::Object(fields) => {
            check(names, fields).map(|message| (path.to_owned(), message)).or_else(|| {
                fields.iter().find_map(|(name, value)| {
                    search(value, &format!("{path}.{name}"), &format!("{names}.{name}"), check)
                })
            })
        }
        _ => None,
    }
}

/// Whether a path ends in `place`, whose last name may be `*`.
fn ends_with(names: &str, place: &str) -> bool {
    match place.strip_suffix(".*") {
        Some(place) => names.rsplit_once('.').is_some_and(|(names, _)| names.ends_with(place)),
        None => names.ends_with(place),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn two_alternatives_are_named_with_their_place() {
        let policy = json!({"loadBalancer": {"simple": "RANDOM", "consistentHash": {}}});
        let spec = json!({"host": "a", "subsets": [{"name": "v1", "trafficPolicy": policy}]});
        assert_eq!(
            conflicting_alternatives(Kind::DestinationRule, &spec, "spec"),
            Some((
                "spec.subsets[0].trafficPolicy.loadBalancer".to_owned(),
                "only one of simple, consistentHash may be set, found simple and consistentHash".to_owned()
            ))
        );
        let spec = json!({"tracing": [{"customTags": {"a": {"literal": {}, "header": {}}}}]});
        assert!(conflicting_alternatives(Kind::Telemetry, &spec, "spec").is_some());
        let spec = json!({"http": [{"route": [], "redirect": null}]});
        assert_eq!(conflicting_alternatives(Kind::VirtualService, &spec, "spec"), None);
    }
}
