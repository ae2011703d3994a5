//! What callers see of instances that are slow, fail, or are far away, and of limits that protect them.
//!
//! `ratings` is a pool of two of which `ratings-bad` answers every request with 500; `scores` is another service of the
//! same pods. `frontend` is in the zone of `zoned-near`; the proxy of `parallel` has two workers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::answers::Summary;
use crate::mesh::Mesh;
use crate::scenario::{Given, Key, Scenario};
use crate::wait::within;

const RATINGS: &str = "http://ratings:9080/";
const SCORES: &str = "http://scores:9080/";
const ZONED: &str = "http://zoned:8080/";
/// With one worker, and with two.
const CALLERS: [&str; 2] = ["frontend", "parallel"];
/// Goes on from run to run, because logs do.
static ATTEMPT: AtomicU32 = AtomicU32::new(1);

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "Y8 five errors in a row eject one of two",
        given: &[],
        key: Key::Manifest("documents/08-timeouts-retries-outliers.yaml#DestinationRule"),
        then: ejected,
    },
    Scenario {
        name: "Y8 an ejected instance comes back",
        given: &[],
        key: Key::Manifest("resilience/scores-short-ejection.yaml"),
        then: comes_back,
    },
    Scenario {
        name: "Y8 three tries at a black hole, and 504 after five seconds",
        given: &["mesh/json-access-log.yaml", "documents/08-timeouts-retries-outliers.yaml#DestinationRule"],
        key: Key::Manifest("documents/08-timeouts-retries-outliers.yaml#VirtualService"),
        then: black_hole,
    },
    Scenario {
        name: "S15 circuit breaking: what exceeds the pool is refused at once",
        given: &["mesh/json-access-log.yaml"],
        key: Key::Manifest("resilience/app-one-at-a-time.yaml"),
        then: circuit_breaking,
    },
    Scenario {
        name: "S15 a split keeps to its weights",
        given: &["resilience/app-versions.yaml"],
        key: Key::Manifest("resilience/app-75-25.yaml"),
        then: exact_split,
    },
    Scenario {
        name: "S15 traffic stays near until the near instance is ejected",
        given: &[],
        key: Key::Manifest("resilience/zoned-failover.yaml"),
        then: failover,
    },
];

fn black_hole(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    // The rule is in effect when an answer of the bad instance is tried again, at the good one.
    mesh.eventually(|| mesh.get("frontend", &[RATINGS, "--repeat", "20"]).none_failed())?;
    let path = format!("/black-hole/{}/?hold", ATTEMPT.fetch_add(1, Ordering::Relaxed));
    let lost = mesh.get("frontend", &[&format!("http://ratings:9080{path}")]);
    lost.status(504)?;
    let elapsed = lost.answer().elapsed_ms;
    eprintln!("    504 after {elapsed:.0} ms");
    ensure!((4900.0..5300.0).contains(&elapsed), "the deadline of 5 s came after {elapsed} ms");
    let tries = || -> usize {
        let logs = ["ratings-good", "ratings-bad"].map(|workload| mesh.proxy_log(workload));
        logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(&path)).count()
    };
    mesh.eventually(|| {
        let tries = tries();
        ensure!(tries == 3, "{tries} tries were seen instead of 3");
        Ok(())
    })
}

fn comes_back(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    for caller in CALLERS {
        only_the_good(mesh, caller, SCORES)?;
        mesh.eventually(|| returned(mesh, caller, SCORES))?;
    }
    Ok(())
}

fn ejected(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    for caller in CALLERS {
        let before = Instant::now();
        // Of requests one by one, the bad instance has five: not one more, and not one less.
        let first = mesh.get(caller, &[RATINGS, "--repeat", "60"]);
        ensure!(
            first.sent - first.ok == 5,
            "{} errors reached {caller}: {:?}",
            first.sent - first.ok,
            first.counts
        );
        only_the_good(mesh, caller, RATINGS)?;
        if std::env::var_os("MESH_LONG").is_some() {
            within(Duration::from_secs(60), || returned(mesh, caller, RATINGS))?;
            let out = before.elapsed().as_secs_f64();
            eprintln!("    out for {out:.1} s of {caller}");
            ensure!((30.0..33.0).contains(&out), "it was out for {out:.1} s instead of 30");
        }
    }
    Ok(())
}

/// Errors reach the caller until the bad instance is ejected; then none does.
fn only_the_good(mesh: &Mesh, caller: &str, url: &str) -> anyhow::Result<()> {
    mesh.eventually(|| {
        mesh.get(caller, &[url, "--repeat", "20", "--concurrency", "4"]);
        let after = mesh.get(caller, &[url, "--repeat", "100", "--concurrency", "4"]);
        after.none_failed()?;
        only(&after, "ratings-good")
    })
}

fn returned(mesh: &Mesh, caller: &str, url: &str) -> anyhow::Result<()> {
    let some = mesh.get(caller, &[url, "--repeat", "10"]);
    ensure!(some.ok < some.sent, "the bad instance is still left out for {caller}");
    Ok(())
}

/// Fails unless all answers came from pods of this workload.
fn only(summary: &Summary, workload: &str) -> anyhow::Result<()> {
    let mut pods = summary.counts.keys();
    let all = pods.all(|pod| pod.starts_with(&format!("{workload}-")));
    ensure!(all && !summary.counts.is_empty(), "others than {workload} answered: {:?}", summary.counts);
    Ok(())
}

fn circuit_breaking(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let path = format!("/crowded/{}/?delay=200ms", ATTEMPT.fetch_add(1, Ordering::Relaxed));
    let url = format!("http://app:8080{path}");
    let crowd = [url.as_str(), "--repeat", "40", "--concurrency", "10", "--count-by", "x-envoy-overloaded"];
    mesh.eventually(|| {
        let crowded = mesh.get("frontend", &crowd);
        let refused = crowded.statuses.get(&503).copied().unwrap_or_default();
        let marked = crowded.counts.get("true").copied().unwrap_or_default();
        ensure!(refused > 0 && crowded.ok > 0, "all were treated alike: {:?}", crowded.statuses);
        ensure!(marked == refused, "{marked} of {refused} refusals say that the service is overloaded");
        Ok(())
    })?;
    let log = mesh.proxy_log("frontend");
    let refusal = log.lines().find(|line| line.contains(&path) && line.contains("503"));
    let record = refusal.context("the log has no refusal")?;
    ensure!(record.contains("\"UO\""), "no flag UO: {record}");
    // One at a time, all get through.
    mesh.get("frontend", &["http://app:8080/", "--repeat", "20"]).none_failed()
}

fn exact_split(given: &Given<'_>) -> anyhow::Result<()> {
    let (count, tolerance) =
        if std::env::var_os("MESH_LONG").is_some() { ("40000", 0.015) } else { ("4000", 0.03) };
    let count_by = ["--count-by", "x-echo-version"];
    let all = [&["http://app:8080/", "--repeat", count, "--concurrency", "16"], &count_by[..]].concat();
    let split = given.mesh.get("frontend", &all);
    split.none_failed()?;
    eprintln!("    {:?}", split.counts);
    split.share("v2", 0.25, tolerance)
}

fn failover(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let served_by = |workload: &str| {
        let some = mesh.get("frontend", &[ZONED, "--repeat", "40"]);
        some.none_failed()?;
        only(&some, workload)
    };
    mesh.eventually(|| served_by("zoned-near"))?;
    let failing = mesh.get("frontend", &["http://zoned:8080/?status=503", "--repeat", "5"]);
    ensure!(failing.ok == 0, "answers are tried again elsewhere: {:?}", failing.statuses);
    only(&failing, "zoned-near")?;
    served_by("zoned-far")?;
    mesh.eventually(|| served_by("zoned-near"))
}
