//! Sessions that stay with one instance, also where the route is split.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};

use crate::scenario::{Given, Key, Scenario};

const APP: &str = "http://app:8080/";
const SPLIT: &str = "resilience/app-75-25.yaml";
/// Subsets, and no sessions.
const NONE: &str = "resilience/app-versions.yaml";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S15 sessions by cookie over a weighted split",
        given: &[SPLIT],
        key: Key::Instead { with: "resilience/app-by-cookie.yaml", without: NONE },
        then: by_cookie,
    },
    Scenario {
        name: "S15 sessions by header over a weighted split",
        given: &[SPLIT],
        key: Key::Instead { with: "resilience/app-by-header.yaml", without: NONE },
        then: by_header,
    },
];

fn by_cookie(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    for _ in 0..5 {
        let first = mesh.eventually(|| {
            let answer = mesh.get("frontend", &[APP]).answered_by("app")?;
            ensure!(answer.header("set-cookie").is_some(), "no cookie is set");
            Ok(answer)
        })?;
        let set = first.header("set-cookie").context("no cookie is set")?;
        let cookie = format!("cookie: {}", set.split(';').next().unwrap_or_default());
        let kept = mesh.get("frontend", &[APP, "-H", &cookie, "--repeat", "40", "--concurrency", "4"]);
        let pod = first.header("x-echo-pod").context("no pod is named")?;
        ensure!(kept.counts.keys().eq([pod]), "the session began at {pod} and went on at {:?}", kept.counts);
        ensure!(kept.answer().header("set-cookie").is_none(), "a client with a cookie gets another");
    }
    // Clients without a cookie: each is a session of its own.
    let clients = [APP, "--repeat", "2000", "--concurrency", "8"];
    let many = mesh.get("frontend", &[&clients[..], &["--count-by", "x-echo-version"]].concat());
    many.share("v2", 0.25, 0.04)?;
    let pods = mesh.get("frontend", &clients).counts;
    ensure!(pods.len() == 4 && pods.values().all(|count| *count > 100), "pods left out: {pods:?}");
    Ok(())
}

fn by_header(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let mut pods = BTreeSet::new();
    for user in 0..12 {
        let header = format!("x-user: user-{user}");
        let kept = mesh.get("frontend", &[APP, "-H", &header, "--repeat", "20", "--concurrency", "4"]);
        kept.none_failed()?;
        ensure!(kept.counts.len() == 1, "user {user} went to several: {:?}", kept.counts);
        pods.extend(kept.counts.into_keys());
    }
    ensure!(pods.len() > 1, "all users go to {pods:?}");
    // Without the header there is no session, and the split is left to chance.
    let clients = [APP, "--repeat", "1000", "--concurrency", "8", "--count-by", "x-echo-version"];
    mesh.get("frontend", &clients).share("v2", 0.25, 0.06)
}
