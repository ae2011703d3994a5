//! What a value may be beyond its type: shares from 0 to 100, ports from 1, addresses that are addresses.
//!
//! The types read whatever fits a number or a text; this table is where the narrower rules of the upstream definitions
//! are. Values are told about, never changed. A text of a Secret is never shown.

use std::net::IpAddr;

use serde_json::Value;

use super::{Duration, Kind};

/// What a value must be.
enum Rule {
    /// From, to.
    Number(f64, f64),
    /// A text or list with something in it.
    Something,
    /// A duration of at least a millisecond.
    Positive,
    /// One of these, in any case; or one of these before a dash.
    Protocol,
    /// An IP or a CIDR.
    Network,
    /// An IP, `None`, or nothing.
    ClusterAddress,
    /// Starts with a slash.
    Path,
    /// An object all of whose names are ports.
    PortNames,
    /// Base64; the text itself is secret.
    Base64,
}

use Rule::{Base64, ClusterAddress, Network, Number, Path, PortNames, Positive, Protocol, Something};

const PORT: Rule = Number(1.0, 65535.0);
const SHARE: Rule = Number(0.0, 100.0);
const COUNT: Rule = Number(0.0, i32::MAX as f64);
const PROTOCOLS: &[&str] =
    &["HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "MYSQL", "REDIS", "UDP"];

/// Kind, trailing path (indexes left out), and what must hold there.
const RANGES: &[(Kind, &str, Rule)] = &[
    (Kind::VirtualService, ".route.weight", COUNT),
    (Kind::VirtualService, ".percentage.value", SHARE),
    (Kind::VirtualService, ".mirrorPercentage.value", SHARE),
    (Kind::VirtualService, ".mirrorPercent", SHARE),
    (Kind::VirtualService, ".delay.percent", SHARE),
    (Kind::VirtualService, ".abort.httpStatus", Number(200.0, 599.0)),
    (Kind::VirtualService, ".retries.attempts", COUNT),
    (Kind::VirtualService, ".perTryTimeout", Positive),
    (Kind::VirtualService, ".fixedDelay", Positive),
    (Kind::VirtualService, ".destination.port.number", PORT),
    (Kind::VirtualService, ".match.port", PORT),
    (Kind::VirtualService, ".redirect.port", PORT),
    (Kind::VirtualService, ".destination.host", Something),
    (Kind::VirtualService, ".destinationSubnets", Network),
    (Kind::VirtualService, ".spec.hosts", Something),
    (Kind::DestinationRule, ".spec.host", Something),
    (Kind::DestinationRule, ".subsets.name", Something),
    (Kind::DestinationRule, ".maxEjectionPercent", SHARE),
    (Kind::DestinationRule, ".minHealthPercent", SHARE),
    (Kind::DestinationRule, ".minimumPercent", SHARE),
    (Kind::DestinationRule, ".aggression", Number(1.0, f64::MAX)),
    (Kind::DestinationRule, ".distribute.to.*", SHARE),
    (Kind::DestinationRule, ".maxConnections", COUNT),
    (Kind::DestinationRule, ".http1MaxPendingRequests", COUNT),
    (Kind::DestinationRule, ".http2MaxRequests", COUNT),
    (Kind::DestinationRule, ".maxRequestsPerConnection", COUNT),
    (Kind::DestinationRule, ".connectTimeout", Positive),
    (Kind::DestinationRule, ".outlierDetection.interval", Positive),
    (Kind::DestinationRule, ".baseEjectionTime", Positive),
    (Kind::DestinationRule, ".portLevelSettings.port.number", PORT),
    (Kind::DestinationRule, ".maglev.tableSize", Number(1.0, 5_000_011.0)),
    (Kind::Gateway, ".servers.port.number", PORT),
    (Kind::Gateway, ".servers.hosts", Something),
    (Kind::Gateway, ".spec.servers", Something),
    (Kind::ServiceEntry, ".spec.hosts", Something),
    (Kind::ServiceEntry, ".spec.addresses", Network),
    (Kind::ServiceEntry, ".spec.ports.number", PORT),
    (Kind::ServiceEntry, ".spec.ports.targetPort", PORT),
    (Kind::ServiceEntry, ".spec.ports.protocol", Protocol),
    (Kind::ServiceEntry, ".endpoints.address", Something),
    (Kind::ServiceEntry, ".endpoints.ports.*", PORT),
    (Kind::WorkloadEntry, ".spec.address", Something),
    (Kind::WorkloadEntry, ".spec.ports.*", PORT),
    (Kind::Sidecar, ".egress.hosts", Something),
    (Kind::Sidecar, ".port.number", PORT),
    (Kind::Sidecar, ".port.protocol", Protocol),
    (Kind::PeerAuthentication, ".portLevelMtls", PortNames),
    (Kind::Telemetry, ".randomSamplingPercentage", SHARE),
    (Kind::Ingress, ".service.port.number", PORT),
    (Kind::Ingress, ".service.name", Something),
    (Kind::Ingress, ".paths.path", Path),
    (Kind::Service, ".spec.ports.port", PORT),
    (Kind::Service, ".spec.ports.targetPort", PORT),
    (Kind::Service, ".spec.ports.nodePort", PORT),
    (Kind::Service, ".spec.clusterIP", ClusterAddress),
    (Kind::EndpointSlice, ".ports.port", PORT),
    (Kind::Secret, ".data.*", Base64),
    (Kind::Deployment, ".ports.containerPort", PORT),
    (Kind::Deployment, ".template.spec.containers", Something),
    (Kind::Pod, ".ports.containerPort", PORT),
    (Kind::Pod, ".spec.containers", Something),
    (Kind::ConfigMap, ".mesh.defaultConfig.tracing.sampling", SHARE),
    (Kind::ConfigMap, ".mesh.extensionProviders.name", Something),
    (Kind::ConfigMap, ".mesh.extensionProviders.*.port", PORT),
    (Kind::ConfigMap, ".mesh.connectTimeout", Positive),
];

/// Every value that is not what it must be: its path and what is wrong with it. `root` is the value's own path.
pub fn out_of_range(kind: Kind, value: &Value, root: &str) -> Vec<(String, String)> {
    let rules = RANGES.iter().filter(|(of, ..)| *of == kind).map(|(_, place, rule)| (*place, rule)).collect();
    let names = if root.is_empty() { String::new() } else { format!(".{root}") };
    let mut walk = Walk { rules, path: root.to_owned(), names, found: Vec::new() };
    if !walk.rules.is_empty() {
        walk.visit(value);
    }
    walk.found
}

struct Walk {
    rules: Vec<(&'static str, &'static Rule)>,
    /// As problems name a field.
    path: String,
    /// The same without indexes, each name after a dot.
    names: String,
    found: Vec<(String, String)>,
}

impl Walk {
    fn visit(&mut self, value: &Value) {
        let rules = self.rules.iter().filter(|(place, _)| ends_with(&self.names, place));
        let wrong = rules.filter_map(|(_, rule)| Some((self.path.clone(), rule.refusal(value)?)));
        let wrong: Vec<_> = wrong.collect();
        self.found.extend(wrong);
        let (path, names) = (self.path.len(), self.names.len());
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    self.visit(item);
                    self.path.truncate(path);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| !(path == 0 && *name == "metadata")) {
                    self.enter(name);
                    self.visit(value);
                    self.path.truncate(path);
                    self.names.truncate(names);
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, name: &str) {
        self.names.push('.');
        self.names.push_str(name);
        if name.contains(['.', '/', '[']) {
            self.path.push_str(&format!("[{name:?}]"));
            return;
        }
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(name);
    }
}

/// Whether a path ends in `place`, in which `*` is any one name.
fn ends_with(names: &str, place: &str) -> bool {
    if !place.contains('*') {
        return names.ends_with(place);
    }
    // Names with dots in them, as files in a Secret have, end a path only.
    if let Some(before) = place.strip_suffix(".*") {
        return names.find(before).is_some_and(|at| names[at + before.len()..].starts_with('.'));
    }
    let (mut names, mut wanted) = (names.rsplit('.'), place.rsplit('.').filter(|name| !name.is_empty()));
    wanted.all(|want| names.next().is_some_and(|name| want == "*" || want == name))
}

impl Rule {
    /// What is wrong with a value; values of another type are the reader's to refuse.
    fn refusal(&self, value: &Value) -> Option<String> {
        let shown = || value.to_string().chars().take(60).collect::<String>();
        match self {
            Number(from, to) => {
                let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
                (!(*from..=*to).contains(&number))
                    .then(|| format!("{} is not {}", shown(), between(*from, *to)))
            }
            Something => {
                let empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
                empty.then(|| "empty; at least one is needed".to_owned())
            }
            Positive => {
                let duration: Duration = value.as_str()?.parse().ok()?;
                (duration.get().as_millis() == 0).then(|| format!("{} is less than 1ms", shown()))
            }
            Protocol => {
                let name = value.as_str()?.to_ascii_uppercase();
                let known = name.is_empty() || PROTOCOLS.contains(&name.as_str());
                (!known).then(|| format!("{} is not a protocol; one of {}", shown(), PROTOCOLS.join(", ")))
            }
            Network => {
                let text = value.as_str()?;
                let valid = text.parse::<IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok();
                (!valid).then(|| format!("{} is not an IP or CIDR, such as 10.0.0.1 or 10.0.0.0/8", shown()))
            }
            ClusterAddress => {
                let text = value.as_str()?;
                let valid = matches!(text, "" | "None") || text.parse::<IpAddr>().is_ok();
                (!valid)
                    .then(|| format!("{} is not an IP or None; leave it out to have one allotted", shown()))
            }
            Path => {
                let text = value.as_str()?;
                let valid = text.is_empty() || text.starts_with('/');
                (!valid).then(|| format!("{} does not start with /", shown()))
            }
            PortNames => {
                let wrong =
                    value.as_object()?.keys().find(|name| name.parse::<u16>().is_ok_and(|n| n == 0))?;
                Some(format!("{wrong} is not {}", between(1.0, 65535.0)))
            }
            Base64 => {
                use base64::Engine as _;
                let bytes: Vec<u8> = value.as_str()?.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
                let valid = base64::engine::general_purpose::STANDARD.decode(bytes).is_ok();
                (!valid).then(|| "not base64; write plain text under stringData instead".to_owned())
            }
        }
    }
}

fn between(from: f64, to: f64) -> String {
    if to >= f64::from(i32::MAX) {
        return format!("a number from {from} up");
    }
    format!("a number from {from} to {to}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_out_of_range_is_named_with_its_place_and_what_is_allowed() {
        let fault = json!({"abort": {"httpStatus": 99, "percentage": {"value": "150"}}});
        let value = json!({"spec": {"hosts": [], "http": [{"fault": fault}]}});
        let found: Vec<_> = out_of_range(Kind::VirtualService, &value, "")
            .into_iter()
            .map(|(field, message)| format!("{field}: {message}"))
            .collect();
        assert_eq!(
            found,
            [
                "spec.hosts: empty; at least one is needed",
                "spec.http[0].fault.abort.httpStatus: 99 is not a number from 200 to 599",
                "spec.http[0].fault.abort.percentage.value: \"150\" is not a number from 0 to 100",
            ]
        );
    }

    #[test]
    fn the_value_of_a_secret_is_not_shown() {
        let found = out_of_range(Kind::Secret, &json!({"data": {"tls.key": "hush!"}}), "");
        assert_eq!(found[0].0, "data[\"tls.key\"]");
        assert!(!found[0].1.contains("hush"));
    }
}
