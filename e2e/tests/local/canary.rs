//! Canaries in ingress-nginx's words.

use crate::scenario::{Given, Key, Scenario};

const URL: &str = "http://example.com/";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y9 a canary by weight",
        given: &["ingress/app-versions.yaml"],
        key: Key::Manifest("documents/09-ingress-canary-weight.yaml"),
        then: by_weight,
    },
    Scenario {
        name: "Y9 a canary without its main Ingress",
        given: &["ingress/app-versions.yaml"],
        key: Key::Instead {
            with: "ingress/canary-alone.yaml",
            without: "documents/09-ingress-canary-weight.yaml",
        },
        then: alone,
    },
];

fn by_weight(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.ingress(URL, &[]).status(200))?;
    let arguments = ["--repeat", "10000", "--concurrency", "8", "--count-by", "x-echo-version"];
    let all = mesh.ingress(URL, &arguments);
    all.none_failed()?;
    all.share("v2", 0.1, 0.01)
}

fn alone(given: &Given<'_>) -> anyhow::Result<()> {
    given.mesh.ingress(URL, &[]).status(404)
}
