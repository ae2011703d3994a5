//! Gateway and VirtualService at the ingress gateway.

use std::time::Duration;

use anyhow::ensure;

use crate::certificates::certificate;
use crate::scenario::{Given, Key, Scenario};

const BY_VERSION: [&str; 2] = ["--count-by", "x-echo-version"];
const VIRTUAL_HOSTS: [&str; 2] = ["prod.istioinaction.io", "api.istioinaction.io"];

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S04 Ingress and Gateway on one port, the Gateway first",
        given: &["ingress/both-ways-ingress.yaml"],
        key: Key::Manifest("ingress/both-ways-gateway.yaml"),
        then: both_ways,
    },
    Scenario {
        name: "S07 a canary by header and by cookie",
        given: &["ingress/canary-gateway.yaml"],
        key: Key::Manifest("ingress/canary-by-header-and-cookie.yaml"),
        then: canary,
    },
    Scenario {
        name: "Y12 a Gateway opens its hosts on the pods it selects",
        given: &["documents/11-ingress-into-gateway.yaml#VirtualService", "ingress/elsewhere-gateway.yaml"],
        key: Key::Manifest("documents/11-ingress-into-gateway.yaml#Gateway"),
        then: hosts_of_a_gateway,
    },
    Scenario {
        name: "Y13 a VirtualService bound to a gateway",
        given: &["documents/11-ingress-into-gateway.yaml#Gateway"],
        key: Key::Manifest("documents/11-ingress-into-gateway.yaml#VirtualService"),
        then: routes_of_a_gateway,
    },
    Scenario {
        name: "S35 virtual hosts by Host, :authority and SNI",
        given: &[
            "secret/virtual-hosts-cert/prod.istioinaction.io,api.istioinaction.io",
            "ingress/virtual-hosts-workloads.yaml",
        ],
        key: Key::Manifest("ingress/virtual-hosts.yaml"),
        then: virtual_hosts,
    },
    Scenario {
        name: "S36 a host is added while a WebSocket stays open",
        given: &["ingress/live-gateway.yaml"],
        key: Key::Midway("ingress/live-second-host.yaml"),
        then: added_host,
    },
];

fn both_ways(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    for host in ["ingress", "gateway", "both"] {
        let url = format!("http://{host}.example.com/");
        mesh.eventually(|| mesh.ingress(&url, &[]).answered_by("web-service"))?;
    }
    Ok(())
}

fn canary(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let url = "http://canary.example.com/";
    mesh.eventually(|| mesh.ingress(url, &[]).answered_by("user-service"))?;
    let cases = [
        ("end-user: jason", "v2"),
        ("cookie: canary=always", "v1"),
        ("cookie: a=b; canary=always; c=d", "v1"),
    ];
    for (header, version) in cases {
        let arguments = [&["-H", header, "--repeat", "10"], &BY_VERSION[..]].concat();
        mesh.ingress(url, &arguments).share(version, 1.0, 0.0)?;
    }
    for header in ["end-user: mary", "cookie: canary=never"] {
        mesh.ingress(url, &["-H", header]).answered_by("user-service")?;
    }
    Ok(())
}

fn hosts_of_a_gateway(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://api.example.com/users", &[]).answered_by("user-service"))?;
    mesh.ingress("http://other.example.com/users", &[]).status(404)?;
    mesh.ingress("http://elsewhere.example.com/", &[]).status(404)
}

fn routes_of_a_gateway(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://api.example.com/users/7", &[]).answered_by("user-service"))?;
    let arguments = [&["--repeat", "800", "--concurrency", "8"], &BY_VERSION[..]].concat();
    let orders = mesh.ingress("http://api.example.com/orders/7", &arguments);
    orders.none_failed()?;
    orders.share("v1", 0.9, 0.04)?;

    // A sidecar must not see it: the address decides there, not the host that only the gateway knows.
    let inside = mesh.get("web-service", &["http://api.example.com/users", "--connect", "shop-service:8080"]);
    inside.answered_by("shop-service")?;
    Ok(())
}

fn virtual_hosts(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let authority = &certificate("virtual-hosts-cert", &VIRTUAL_HOSTS).authority;
    for (place, app) in [("prod.istioinaction.io/", "prod"), ("api.istioinaction.io/v1/products", "products")]
    {
        let (plain, secure) = (format!("http://{place}"), format!("https://{place}"));
        mesh.eventually(|| mesh.ingress(&plain, &[]).answered_by(app))?;
        let http2 = mesh.ingress(&plain, &["--http2"]).answered_by(app)?;
        ensure!(http2.protocol == "HTTP/2.0", "the gateway answered in {}", http2.protocol);
        // The application's own certificate: nobody on the way has decrypted.
        mesh.eventually(|| mesh.ingress_tls(&secure, authority, &[]).answered_by(app))?;
    }
    Ok(())
}

fn added_host(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress("http://foo.example.com/", &[]).answered_by("web-service"))?;
    mesh.ingress("http://bar.example.com/", &[]).status(404)?;
    let arguments = ["ws", "ws://foo.example.com/chat", "hello", "--repeat", "50", "--interval", "100ms"];
    let mut socket = mesh.start_outside(&arguments);
    ensure!(socket.line(Duration::from_secs(10))?.as_deref() == Some("hello"), "the WebSocket does not open");

    given.apply_key();
    mesh.eventually(|| mesh.ingress("http://bar.example.com/", &[]).answered_by("user-service"))?;
    let spread = mesh.ingress("http://bar.example.com/", &["--repeat", "40"]);
    ensure!(spread.counts.len() == 2, "not both instances answer: {:?}", spread.counts);

    let output = socket.finish(Duration::from_secs(30))?;
    let replies = output.stdout.lines().count();
    ensure!(
        output.code == Some(0) && replies == 50,
        "the WebSocket broke after {replies} replies: {}",
        output.stderr
    );
    Ok(())
}
