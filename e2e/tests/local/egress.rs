//! The way out. What stands for the world outside are pods without a proxy, known by the names that they publish; its
//! certificate is signed by a CA that the machine trusts, as the system's would be.

use std::net::SocketAddr;
use std::time::SystemTime;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::answers::Answer;
use crate::fixture::manifest;
use crate::limits::ten_of_eleven;
use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};
use crate::spans::{sides_of, traces};

/// What the certificate outside is for.
pub(crate) const HOSTS: &[&str] =
    &["finance.yahoo.com", "a.external.com", "b.external.com", "partner.example.com", "strict.example.com"];

const YAHOO: &str = "documents/12-egress-tls-origination.yaml";
const ENTRY: &str = "documents/12-egress-tls-origination.yaml#ServiceEntry";
const GATEWAY: &str = "documents/12-egress-tls-origination.yaml#Gateway";
const RULE: &str = "documents/12-egress-tls-origination.yaml#DestinationRule";
const ROUTES: &str = "documents/12-egress-tls-origination.yaml#VirtualService";
const LOG: &str = "mesh/json-access-log.yaml";
const WILDCARD_CA: &str = "authority/outside-cert/external-ca/istio-system";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y14 S10 the ServiceEntry makes the host known, on both ports",
        given: &[GATEWAY, RULE, ROUTES],
        key: Key::Manifest(ENTRY),
        then: leaves_as_tls,
    },
    Scenario {
        name: "Y15 S11 the egress gateway is the only way out",
        given: &[ENTRY, RULE, ROUTES],
        key: Key::Manifest(GATEWAY),
        then: leaves_as_tls,
    },
    Scenario {
        name: "Y16 S32 the DestinationRule makes it TLS on 443",
        given: &[ENTRY, GATEWAY, ROUTES],
        key: Key::Manifest(RULE),
        then: leaves_as_tls,
    },
    Scenario {
        name: "Y16 TLS to 443, and plain to 80",
        given: &[ENTRY, "egress/secure-path.yaml"],
        key: Key::Manifest(RULE),
        then: tls_on_one_port,
    },
    Scenario {
        name: "Y14 a host outside is found where it has moved to",
        given: &["egress/moving.yaml"],
        key: Key::Midway("egress/moved.yaml"),
        then: resolved_anew,
    },
    Scenario {
        name: "S11 without its Gateway nothing leaves: there is no way around",
        given: &[ENTRY, GATEWAY, RULE],
        key: Key::Manifest(ROUTES),
        then: no_way_around,
    },
    Scenario {
        name: "Y17 the VirtualService leads through the gateway and its routes are named in the log",
        given: &[ENTRY, GATEWAY, RULE, LOG],
        key: Key::Manifest(ROUTES),
        then: routes_are_named,
    },
    Scenario {
        name: "S09 S33 what nobody declares is blocked, and counted by its host",
        given: &[YAHOO],
        key: Key::Manifest("egress/registry-only.yaml"),
        then: undeclared_is_blocked,
    },
    Scenario {
        name: "S12 a wildcard's hosts leave through the gateway under TLS, each with its own server name",
        given: &[
            WILDCARD_CA,
            "egress/wildcard.yaml#ServiceEntry",
            "egress/wildcard.yaml#Gateway",
            "egress/wildcard.yaml#DestinationRule",
        ],
        key: Key::Manifest("egress/wildcard.yaml#VirtualService"),
        then: wildcard,
    },
    Scenario {
        name: "S13 a policy at the egress gateway denies a namespace",
        given: &[YAHOO],
        key: Key::Manifest("egress/deny-namespace.yaml"),
        then: namespace_is_denied,
    },
    Scenario {
        name: "S13 the eleventh of ten requests a minute is refused at the egress gateway",
        given: &[YAHOO],
        key: Key::Manifest("egress/limit.yaml"),
        then: limited_on_the_way_out,
    },
    Scenario {
        name: "S14 the gateway measures what leaves, and the trace goes through it",
        given: &[YAHOO, "mesh/otlp.yaml"],
        key: Key::Manifest("mesh/otlp-tracing.yaml"),
        then: measured_and_traced,
    },
    Scenario {
        name: "S31 only payments may reach the approved host, and every attempt is on record",
        given: &[YAHOO, WILDCARD_CA, "egress/wildcard.yaml", "egress/registry-only-log.yaml"],
        key: Key::Manifest("egress/only-payments.yaml"),
        then: only_payments,
    },
    Scenario {
        name: "S33 TLS of the application's own is passed through by server name",
        given: &["egress/passthrough.yaml#ServiceEntry", "egress/passthrough.yaml#Gateway"],
        key: Key::Manifest("egress/passthrough.yaml#VirtualService"),
        then: passed_through,
    },
    Scenario {
        name: "S33 by MUTUAL the gateway shows the certificate that a server outside demands",
        given: &[
            "credential/egress-client/istio-system",
            "egress/mutual.yaml#ServiceEntry",
            "egress/mutual.yaml#Gateway",
            "egress/mutual.yaml#VirtualService",
        ],
        key: Key::Instead { with: "egress/mutual.yaml#DestinationRule", without: "egress/not-mutual.yaml" },
        then: shows_its_certificate,
    },
    Scenario {
        name: "S33 an ISTIO_MUTUAL server of the gateway takes callers that ask for its name, and knows them",
        given: &["egress/inside.yaml", LOG],
        key: Key::Instead { with: "egress/inside-rule.yaml", without: "egress/inside-other-name.yaml" },
        then: mesh_tls_is_asked_for,
    },
];

/// The application speaks plain HTTP; outside, TLS arrives with server name and Host as they were, from the gateway.
fn leaves_as_tls(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let answer = mesh.eventually(|| through_gateway(mesh, "finance.yahoo.com"))?;
    ensure!(answer.text("/host") == "finance.yahoo.com", "Host is {}", answer.text("/host"));
    for header in ["x-forwarded-client-cert", "x-mesh-hops", "x-envoy-attempt-count"] {
        let seen = answer.seen_header(header);
        ensure!(seen.is_none() || header == "x-envoy-attempt-count", "{header} left the mesh: {seen:?}");
    }
    let inwards = mesh.ingress("http://finance.yahoo.com/", &[]).answer().status;
    ensure!(inwards != 200, "the ingress gateway listens too");
    let config = mesh.config("shop");
    ensure!(config.contains("finance.yahoo.com"), "mesh config does not show the host");
    mesh.eventually(|| {
        let metrics = mesh.egress_metrics("stray");
        let by_name = |line: &&str| {
            line.starts_with("istio_requests_total")
                && line.contains(r#"destination_service="finance.yahoo.com""#)
        };
        metrics.lines().find(by_name).map(drop).context("the gateway counts no request by the host's name")
    })
}

fn tls_on_one_port(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let get =
        |path: &str| mesh.get("shop", &[&format!("http://finance.yahoo.com{path}")]).answered_by("outside");
    let secure = mesh.eventually(|| get("/secure"))?;
    ensure!(secure.text("/tls/server_name") == "finance.yahoo.com", "no TLS to 443: {}", secure.body);
    let plain = get("/plain")?;
    ensure!(plain.body.pointer("/tls").is_none_or(Value::is_null), "TLS to 80: {}", plain.body);
    Ok(())
}

fn resolved_anew(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let call = ["http://moving.example.com/", "--timeout", "2s"];
    let answered_by = |name: &str| mesh.get("shop", &call).answered_by(name);
    // A pod has to come first, and answers of DNS live for five seconds.
    let eventually = |name: &str| {
        let once = || mesh.eventually(|| answered_by(name));
        once().or_else(|_| once())
    };
    eventually("before")?;
    let before = mesh.addresses("moving");
    given.apply_key();
    eventually("after")?;
    ensure!(mesh.addresses("moving") != before, "it has not moved: {before:?}");
    Ok(())
}

fn no_way_around(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| through_gateway(mesh, "finance.yahoo.com"))?;
    mesh.delete_text(&manifest(GATEWAY));
    let get = |more: &[&str]| mesh.get("shop", &[&["http://finance.yahoo.com/"], more].concat());
    let closed = mesh.eventually(|| {
        let answer = get(&[]).answer();
        ensure!(answer.status != 200, "it still leaves");
        Ok(())
    });
    let many = get(&["--repeat", "20"]);
    mesh.apply_text(&manifest(GATEWAY));
    closed?;
    let left = many.statuses.get(&200).copied().unwrap_or_default();
    ensure!(left == 0, "{left} of {} found a way around", many.sent);
    Ok(())
}

fn through_gateway(mesh: &Mesh, host: &str) -> anyhow::Result<Answer> {
    let answer = mesh.get("shop", &[&format!("http://{host}/")]).answered_by("outside")?;
    let server_name = answer.text("/tls/server_name");
    ensure!(server_name == host, "the server name is {server_name:?}");
    came_from_gateway(mesh, &answer)?;
    Ok(answer)
}

fn came_from_gateway(mesh: &Mesh, answer: &Answer) -> anyhow::Result<()> {
    let peer: SocketAddr = answer.text("/peer").parse().context("no peer")?;
    let gateways = mesh.addresses("istio-egressgateway");
    ensure!(gateways.contains(&peer.ip().to_string()), "{peer} is not one of the gateway's {gateways:?}");
    Ok(())
}

fn routes_are_named(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| through_gateway(mesh, "finance.yahoo.com"))?;
    mesh.eventually(|| {
        through_gateway(mesh, "finance.yahoo.com")?;
        let inside = record(&mesh.eventually_in_log("shop", "outbound|80||istio-egressgateway")?)?;
        ensure!(inside["route_name"] == "mesh", "the sidecar's route is {}", inside["route_name"]);
        let outside = record(&mesh.egress_log("outbound|443||finance.yahoo.com")?)?;
        let name = &outside["route_name"];
        ensure!(name == "yahoo-egressgateway", "the gateway's route is {name}");
        Ok(())
    })
}

fn record(line: &str) -> anyhow::Result<Value> {
    serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))
}

fn undeclared_is_blocked(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let addresses = mesh.addresses("stray");
    let stray = addresses.first().context("no stray pod")?;
    mesh.eventually(|| {
        let http = format!("{stray}:80");
        mesh.get("shop", &["http://blocked.example.com/", "--connect", &http]).status(502)
    })?;
    let tcp = mesh.get("shop", &[&format!("http://{stray}:9000/")]).answer();
    ensure!(tcp.status == 502 || tcp.status == 0, "undeclared TCP has status {}", tcp.status);
    let counted = r#"mesh_egress_blocked_total{host="blocked.example.com"}"#;
    ensure!(mesh.metrics("shop").contains(counted), "the blocked host is not counted");
    mesh.eventually(|| through_gateway(mesh, "finance.yahoo.com"))?;
    Ok(())
}

fn wildcard(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    for host in ["a.external.com", "b.external.com"] {
        mesh.eventually(|| through_gateway(mesh, host))?;
    }
    Ok(())
}

fn namespace_is_denied(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("shop", &["http://finance.yahoo.com/"]).status(403))
}

fn limited_on_the_way_out(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| through_gateway(mesh, "finance.yahoo.com"))?;
    ten_of_eleven(&mesh.get("shop", &["http://finance.yahoo.com/limited", "--repeat", "11"]))?;
    // Whoever asks: it is one number, and only of what it is about.
    mesh.get("payments", &["http://finance.yahoo.com/limited"]).status(429)?;
    through_gateway(mesh, "finance.yahoo.com").map(drop)
}

fn measured_and_traced(given: &Given<'_>) -> anyhow::Result<()> {
    const WAY: [&str; 2] =
        ["shop.default SPAN_KIND_CLIENT", "istio-egressgateway.istio-system SPAN_KIND_CLIENT"];
    let (mesh, begin) = (given.mesh, SystemTime::now());
    mesh.eventually(|| through_gateway(mesh, "finance.yahoo.com"))?;
    mesh.eventually(|| {
        mesh.get("shop", &["http://finance.yahoo.com/", "--repeat", "3"]).none_failed()?;
        let traces = traces(mesh, begin)?;
        let whole = traces.values().any(|spans| WAY.iter().all(|side| sides_of(spans).contains(*side)));
        ensure!(whole, "no trace goes through the gateway");
        Ok(())
    })?;
    let metrics = mesh.egress_metrics("stray");
    for name in [
        "istio_requests_total",
        "istio_request_duration_milliseconds_bucket",
        "istio_request_bytes_sum",
        "istio_response_bytes_sum",
    ] {
        let host = r#"destination_service="finance.yahoo.com""#;
        let seen = metrics.lines().any(|line| {
            line.starts_with(name) && line.contains(host) && line.contains(r#"response_code="200""#)
        });
        ensure!(seen, "the gateway has no {name} for the host");
    }
    Ok(())
}

fn only_payments(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| {
        mesh.get("shop", &["http://finance.yahoo.com/not-for-shop"]).status(403)?;
        mesh.get("payments", &["http://finance.yahoo.com/for-payments"]).answered_by("outside").map(drop)
    })?;
    mesh.eventually(|| mesh.get("payments", &["http://a.external.com/not-approved"]).status(403))?;
    for (path, status, account) in [
        ("/not-for-shop", 403, "shop"),
        ("/for-payments", 200, "payments"),
        ("/not-approved", 403, "payments"),
    ] {
        let record = record(&mesh.egress_log(path)?)?;
        ensure!(record["response_code"] == status, "{path} is on record with {}", record["response_code"]);
        let caller = &record["downstream_peer_uri_san"];
        let expected = format!("spiffe://cluster.local/ns/default/sa/{account}");
        ensure!(*caller == expected, "{path} is on record as called by {caller}");
    }
    // What nobody declares does not get as far as the gateway.
    let addresses = mesh.addresses("stray");
    let stray = format!("{}:80", addresses.first().context("no stray pod")?);
    mesh.get("payments", &["http://undeclared.example.com/undeclared", "--connect", &stray]).status(502)?;
    let record = record(&mesh.eventually_in_log("payments", "/undeclared")?)?;
    ensure!(record["source"] == "payments.default.svc" && record["response_code"] == 502, "{record}");
    Ok(())
}

fn passed_through(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let url = "https://partner.example.com/";
    let answer = mesh.eventually(|| {
        let answer = mesh.get("shop", &[url, "--cacert", "/etc/outside/ca.crt"]).answered_by("outside")?;
        came_from_gateway(mesh, &answer)?;
        Ok(answer)
    })?;
    ensure!(answer.text("/tls/server_name") == "partner.example.com", "the server name is lost");
    ensure!(answer.seen_header("x-request-id").is_none(), "something on the way has read the request");
    Ok(())
}

fn shows_its_certificate(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| {
        let answer = mesh.get("shop", &["http://strict.example.com/"]).answered_by("strict")?;
        ensure!(answer.text("/tls/server_name") == "strict.example.com", "the server name is lost");
        came_from_gateway(mesh, &answer)
    })
}

fn mesh_tls_is_asked_for(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| through_gateway(mesh, "finance.yahoo.com"))?;
    mesh.get("shop", &["http://finance.yahoo.com/inside"]).answered_by("outside")?;
    let record = record(&mesh.egress_log("/inside")?)?;
    let caller = &record["downstream_peer_uri_san"];
    ensure!(*caller == "spiffe://cluster.local/ns/default/sa/shop", "on record as called by {caller}");
    Ok(())
}
