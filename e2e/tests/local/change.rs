//! Changes while traffic flows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::answers::{Summary, share_of};
use crate::mesh::{PACE, summary};
use crate::process::Running;
use crate::scenario::{Given, Key, Scenario, report};

/// How fast and for how long, and what is expected of edits; where the mesh runs has a say in it.
pub(crate) struct Pace {
    /// Load from a pod: requests per second, connections.
    pub(crate) inside: [&'static str; 2],
    /// And beside it from outside, through the gateway.
    pub(crate) outside: [&'static str; 2],
    /// How long each load runs.
    pub(crate) duration: &'static str,
    /// How long it runs before the change.
    pub(crate) before: Duration,
    /// How long a change may take to be seen everywhere.
    pub(crate) propagation: Duration,
}

impl Pace {
    fn load<'a>(&self, url: &'a str, [rate, connections]: [&'a str; 2]) -> Vec<&'a str> {
        let (by, duration) = ("x-echo-version", self.duration);
        let flags = ["--rate", rate, "--connections", connections, "--duration", duration, "--count-by", by];
        [&["load", url], &flags[..]].concat()
    }
}

/// Of the load's timeline.
const WINDOW: Duration = Duration::from_millis(100);

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "S16 an edit reaches every proxy within a second",
        given: &["mesh/backend-header-a.yaml"],
        key: Key::Midway("mesh/backend-header-b.yaml"),
        then: edit_reaches_every_proxy,
    },
    Scenario {
        name: "S25 the split follows an edit under load, nothing fails",
        given: &[
            "documents/10-virtualservice-canary.yaml",
            "mesh/app-gateway.yaml",
            "mesh/app-from-outside-90-10.yaml",
        ],
        key: Key::Midway("mesh/app-50-50.yaml"),
        then: split_follows_under_load,
    },
];

fn edit_reaches_every_proxy(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let callers = ["frontend", "app-v1", "app-v2"];
    let policy = |caller| {
        let answer = mesh.get(caller, &["http://backend:8080/"]).answered_by("backend")?;
        answer.seen_header("x-policy").context("no policy is applied")
    };
    for caller in callers {
        mesh.eventually(|| {
            ensure!(policy(caller)? == "first", "{caller} does not know the first policy");
            Ok(())
        })?;
    }

    let edited = Instant::now();
    given.apply_key();
    let elapsed = edited.elapsed();
    report(&format!("acknowledged after {elapsed:?}"));
    ensure!(elapsed < PACE.propagation, "the edit was acknowledged after {elapsed:?}");
    for caller in callers {
        ensure!(policy(caller)? == "second", "{caller} does not know the edit that it acknowledged");
    }
    let control = mesh.status()["control"].to_string();
    for caller in callers {
        let pod = mesh.ready_pods(caller).pop().with_context(|| format!("{caller} has no ready pod"))?;
        ensure!(control.contains(&pod), "mesh status does not show the state of {pod}");
    }
    Ok(())
}

fn split_follows_under_load(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| mesh.get("frontend", &["http://app:8080/"]).answered_by("app"))?;
    mesh.eventually(|| mesh.ingress("http://app.example.com/", &[]).answered_by("app"))?;
    let inside = mesh.start_in("frontend", &PACE.load("http://app:8080/", PACE.inside));
    let outside = mesh.start_outside(&PACE.load("http://app.example.com/", PACE.outside));
    let loads = [inside, outside].map(Load::started);

    // The load itself takes this long; there is nothing to wait for.
    std::thread::sleep(PACE.before);
    let edited = Instant::now();
    given.apply_key();
    for load in loads {
        load?.shows_the_edit(edited)?;
    }
    Ok(())
}

struct Load {
    process: Running,
    started: Instant,
}

impl Load {
    fn started(mut process: Running) -> anyhow::Result<Self> {
        ensure!(process.line(Duration::from_secs(10))?.is_some(), "the load does not start");
        Ok(Self { process, started: Instant::now() })
    }

    fn shows_the_edit(self, edited: Instant) -> anyhow::Result<()> {
        let summary = summary(&self.process.finish(Duration::from_secs(60))?);
        summary.none_failed()?;
        report(&format!("{} requests, none failed", summary.sent));
        let edit = edited.duration_since(self.started);
        let old = share_between(&summary, Duration::ZERO, edit).context("no traffic before the edit")?;
        let new = share_between(&summary, edit + PACE.propagation, Duration::MAX)
            .context("no traffic after the edit")?;
        ensure!((old - 0.1).abs() < 0.05, "v2 had {old:.3} instead of 0.1 before the edit");
        ensure!((new - 0.5).abs() < 0.06, "v2 has {new:.3} instead of 0.5 after the edit");
        Ok(())
    }
}

/// The share of v2 among the answers that came in a stretch of the load.
fn share_between(summary: &Summary, from: Duration, to: Duration) -> Option<f64> {
    let mut total = BTreeMap::new();
    let windows = (0u32..).map(|number| WINDOW * number).zip(&summary.timeline);
    for (_, window) in windows.filter(|(start, _)| *start >= from && start.saturating_add(WINDOW) <= to) {
        window.iter().for_each(|(version, count)| *total.entry(version.clone()).or_default() += count);
    }
    share_of(&total, "v2")
}
