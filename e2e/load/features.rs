//! What a feature costs that a user can switch on: our gateway with one of them, as a subject of its own.
//!
//! Each is the whole of what a user writes for it, and nothing else differs from the subject `mesh`.

use std::fmt::Write as _;

use anyhow::bail;

use crate::credentials::Issuer;
use crate::generator::HOST;

/// Everything that tells of a request: metrics, an access log as JSON, and spans of 1 % of requests. Peers have it too.
pub(crate) const TELEMETRY: &str = "telemetry";

/// All of them.
pub(crate) const NAMES: [&str; 10] = [
    TELEMETRY,
    "access-log",
    "tracing-1",
    "tracing-100",
    "authorization-100",
    "authorization-1000",
    "jwt",
    "rate-limit",
    "routes-5000",
    "routes-10000",
];

/// One of them.
#[derive(Default)]
pub(crate) struct Feature {
    pub(crate) name: String,
    /// What switches it on.
    pub(crate) manifests: String,
    /// More of the mesh's Telemetry, after its access log.
    pub(crate) telemetry: String,
    /// What requests bring for it, as lines of a head.
    pub(crate) headers: String,
    /// In place of the only route.
    pub(crate) routes: String,
    /// Whether spans are sent somewhere.
    pub(crate) collector: bool,
    /// Whether requests are logged.
    pub(crate) logs: bool,
}

impl Feature {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        let feature = match name {
            TELEMETRY => {
                let spans = tracing(1);
                Self {
                    manifests: settings(&format!("{ACCESS_LOG}{PROVIDER}")) + COLLECTOR,
                    logs: true,
                    ..spans
                }
            }
            "access-log" => Self { manifests: access_log(), logs: true, ..Self::default() },
            "tracing-1" => tracing(1),
            "tracing-100" => tracing(100),
            "authorization-100" => Self { manifests: authorization(100), ..Self::default() },
            "authorization-1000" => Self { manifests: authorization(1_000), ..Self::default() },
            "jwt" => jwt()?,
            "rate-limit" => Self { manifests: rate_limit(), ..Self::default() },
            "routes-5000" => Self { routes: routes(5_000), ..Self::default() },
            "routes-10000" => Self { routes: routes(10_000), ..Self::default() },
            _ => bail!("no feature {name:?}; there are {}", NAMES.join(", ")),
        };
        Ok(Self { name: name.to_owned(), ..feature })
    }
}

const SELECTOR: &str = "selector: {matchLabels: {istio: ingressgateway}}";

const ACCESS_LOG: &str = "    accessLogFile: /dev/stdout\n    accessLogEncoding: JSON\n";
const PROVIDER: &str = "    extensionProviders:
    - {name: otel, opentelemetry: {service: collector.example, port: {collector_port}}}
";
/// Who takes spans.
const COLLECTOR: &str = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: collector}
spec:
  hosts: [collector.example]
  ports: [{number: {collector_port}, name: grpc, protocol: GRPC}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
";

/// The mesh's settings.
fn settings(lines: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
{lines}"
    )
}

fn access_log() -> String {
    settings(ACCESS_LOG)
}

/// Spans go to `collector.example`.
fn tracing(percent: u32) -> Feature {
    // In the one Telemetry of the mesh: of two, one would not count.
    let telemetry =
        format!(", tracing: [{{providers: [{{name: otel}}], randomSamplingPercentage: {percent}}}]");
    Feature { manifests: settings(PROVIDER) + COLLECTOR, telemetry, collector: true, ..Feature::default() }
}

/// So many rules, of which only the last lets the request in.
fn authorization(count: usize) -> String {
    let mut rules = String::new();
    for number in 1..count {
        let _ = writeln!(
            rules,
            "  - {{to: [{{operation: {{paths: [/path-{number}/*], methods: [GET]}}}}], when: [{{key: 'request.headers[x-team]', \
             values: [team-{number}]}}]}}"
        );
    }
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: rules, namespace: istio-system}}
spec:
  {SELECTOR}
  action: ALLOW
  rules:
{rules}  - {{to: [{{operation: {{methods: [GET]}}}}]}}
"
    )
}

fn jwt() -> anyhow::Result<Feature> {
    let issuer = Issuer::generate()?;
    let claims = serde_json::json!({"iss": "https://issuer.example", "sub": "ann", "aud": "shop"});
    let keys = issuer.keys()?;
    let manifests = format!(
        "---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: istio-system}}
spec:
  {SELECTOR}
  jwtRules:
  - {{issuer: 'https://issuer.example', audiences: [shop], jwks: '{keys}'}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: tokens, namespace: istio-system}}
spec:
  {SELECTOR}
  action: ALLOW
  rules: [{{from: [{{source: {{requestPrincipals: ['*']}}}}]}}]
"
    );
    let headers = format!("authorization: Bearer {}\r\n", issuer.sign(claims)?);
    Ok(Feature { manifests, headers, ..Feature::default() })
}

/// One that is never reached.
fn rate_limit() -> String {
    format!(
        "---
apiVersion: minimesh.io/v1alpha1
kind: RateLimit
metadata: {{name: limit, namespace: istio-system}}
spec:
  {SELECTOR}
  rules: [{{limit: {{requests: 1000000, per: 1s}}}}]
"
    )
}

/// So many rules of which the last takes the request.
fn routes(count: usize) -> String {
    let route = "route: [{destination: {host: backend.example, port: {number: {backend_port}}}}]";
    let mut rules = String::new();
    for number in 1..count {
        let _ = writeln!(rules, "  - {{match: [{{uri: {{prefix: /{HOST}/route-{number}/}}}}], {route}}}");
    }
    format!("\n{rules}  - {{{route}}}\n")
}
