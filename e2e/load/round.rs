//! Rounds: every subject in turn, under the same load.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::Measurement;
use crate::case::{CASES, Case};
use crate::certificate::Certificate;
use crate::generator::Generator;
use crate::process::{Running, processor_time};
use crate::report::{Report, Sample};
use crate::subject::{self, Subject};

/// Load before the first measured round, for code paths, pools and allocators to settle.
const WARM_UP: Duration = Duration::from_millis(500);
/// Above this share of a processor, generator or backend may have been what was measured.
const BUSY: f64 = 0.8;

/// Measures everything and prints what came of it.
pub(crate) async fn measure(measurement: &Measurement) -> anyhow::Result<()> {
    let cases = chosen(&measurement.case)?;
    let folder = tempfile::tempdir()?;
    let (backend_address, backend) = start_backend()?;
    let certificate = Certificate::generate(folder.path())?;
    let subjects =
        subject::start_all(&measurement.chosen, backend_address, folder.path(), &certificate).await?;
    let mut report = Report::default();
    for case in cases {
        let subjects: Vec<_> = subjects.iter().filter(|each| each.address(case.entrance).is_some()).collect();
        for subject in &subjects {
            run(case, subject, &backend, &certificate, WARM_UP).await?;
        }
        for round in 0..measurement.rounds {
            eprintln!("{}: round {} of {}", case.name, round + 1, measurement.rounds);
            for at in 0..subjects.len() {
                // The order turns, so that nobody always comes after the same other.
                let subject = subjects[(at + round) % subjects.len()];
                let sample = run(case, subject, &backend, &certificate, measurement.duration()).await?;
                report.add(case.name, &subject.name, sample);
            }
        }
    }
    report.print(measurement)
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Case>> {
    if names.is_empty() {
        return Ok(CASES.to_vec());
    }
    let find = |name: &String| {
        let found = CASES.iter().find(|case| case.name == name).copied();
        found.with_context(|| {
            let all: Vec<_> = CASES.iter().map(|case| case.name).collect();
            format!("no case {name:?}; there are {}", all.join(", "))
        })
    };
    names.iter().map(find).collect()
}

pub(crate) fn start_backend() -> anyhow::Result<(SocketAddr, Running)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("backend")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the backend")?;
    let output = child.stdout.take().context("the backend has no output")?;
    let running = Running::of(child);
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((line.trim().parse().context("the backend names no address")?, running))
}

/// Drives a subject for a while.
pub(crate) async fn run(
    case: Case,
    subject: &Subject,
    backend: &Running,
    certificate: &Certificate,
    duration: Duration,
) -> anyhow::Result<Sample> {
    let what = || format!("{} under {}", subject.name, case.name);
    let address = subject.address(case.entrance).with_context(|| format!("{} does not take it", what()))?;
    let mut generator =
        Generator::open(address, case, &certificate.der, &subject.headers).await.with_context(what)?;
    let own = std::process::id();
    let before = (subject.processor_time(), backend.processor_time(), processor_time(own));
    let load = generator.run(duration).await.with_context(what)?;
    let used = subject.processor_time() - before.0;
    let beside = [backend.processor_time() - before.1, processor_time(own) - before.2];
    let busiest = beside.iter().map(|time| time.as_secs_f64() / load.seconds).fold(0.0, f64::max);
    if load.requests == 0 {
        bail!("{}: no request was sent", what());
    }
    if busiest > BUSY {
        eprintln!("{}: backend or generator used {:.0} % of a processor", what(), busiest * 100.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "no round has 2^52 requests")]
    let requests = load.requests as f64;
    let at = |quantile| load.latencies.value_at_quantile(quantile);
    Ok(Sample {
        microseconds_per_request: used.as_secs_f64() * 1e6 / requests,
        requests_per_second: requests / load.seconds,
        p50_microseconds: at(0.5),
        p99_microseconds: at(0.99),
        p999_microseconds: at(0.999),
        memory_bytes: subject.memory(),
        busiest_beside: busiest,
    })
}
