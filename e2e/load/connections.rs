//! `mesh-bench connections`: what memory a proxy holds for clients that are there and say nothing, and when they have gone.
//!
//! Each connection has carried one request, so that everything a connection ever gets has been made. Then comes a burst,
//! in which all connections that it has take a larger answer at once. Memory is the sum of shares (PSS) of the subject's
//! processes.

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Chosen;
use crate::case::{Case, Entrance};
use crate::certificate::Certificate;
use crate::generator::Generator;
use crate::round::start_backend;
use crate::subject::{self, Subject};

/// For a proxy to give back what a change has freed.
const SETTLE: Duration = Duration::from_secs(10);
/// Connections that take an answer of [`BURST_BYTES`] at once.
const BURST: usize = 256;
const BURST_BYTES: usize = 64 * 1024;
/// Files beside those of the connections.
const SPARE: u64 = 256;

/// How many connections.
#[derive(clap::Args)]
pub(crate) struct Many {
    /// Idle connections; may be given several times, from few to many
    #[arg(long, value_name = "COUNT", default_values_t = [1_000, 10_000])]
    count: Vec<usize>,
    #[command(flatten)]
    chosen: Chosen,
}

/// Measures and prints one line for each subject.
pub(crate) async fn measure(many: &Many) -> anyhow::Result<()> {
    let most = many.count.iter().copied().max().context("no count is given")?;
    allow_files(u64::try_from(most)? + SPARE)?;
    let folder = tempfile::tempdir()?;
    let certificate = Certificate::generate(folder.path())?;
    let (address, _backend) = start_backend()?;
    let subjects = subject::start_all(&many.chosen, address, folder.path(), &certificate).await?;
    let mut output = std::io::stdout();
    let counts: String = many.count.iter().map(|count| format!("{count:>10}")).collect();
    writeln!(output, "{:<16}{:>10}{counts}{:>10}{:>10}", "PSS in MiB", "fresh", "closed", "burst over")?;
    for subject in subjects.iter().filter(|subject| subject.address(Entrance::Http1).is_some()) {
        let mut line = format!("{:<16}{:>10.1}", subject.name, memory(subject));
        for held in idle(subject, &many.count, &certificate).await.with_context(|| subject.name.clone())? {
            line.push_str(&format!("{held:>10.1}"));
        }
        burst(subject, &certificate).await.with_context(|| subject.name.clone())?;
        line.push_str(&format!("{:>10.1}", memory(subject)));
        writeln!(output, "{line}")?;
    }
    Ok(())
}

/// Memory with each count of connections, and after all have closed.
async fn idle(subject: &Subject, counts: &[usize], certificate: &Certificate) -> anyhow::Result<Vec<f64>> {
    let mut held = Vec::new();
    let mut open = Vec::new();
    let mut connected = 0;
    for count in counts {
        let connections = count.saturating_sub(connected);
        let case = Case { connections, ..Case::SMALL };
        open.push(Generator::open(http1(subject)?, case, &certificate.der, &subject.headers).await?);
        connected += connections;
        tokio::time::sleep(SETTLE / 2).await;
        held.push(memory(subject));
    }
    drop(open);
    tokio::time::sleep(SETTLE).await;
    held.push(memory(subject));
    Ok(held)
}

/// Answers that are large, all at once, and time to forget them.
async fn burst(subject: &Subject, certificate: &Certificate) -> anyhow::Result<()> {
    let case = Case { connections: BURST, rate: 100_000.0, response: BURST_BYTES, ..Case::SMALL };
    let mut generator = Generator::open(http1(subject)?, case, &certificate.der, &subject.headers).await?;
    generator.run(Duration::from_millis(100)).await?;
    drop(generator);
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

fn http1(subject: &Subject) -> anyhow::Result<SocketAddr> {
    subject.address(Entrance::Http1).context("it takes no HTTP/1.1")
}

#[expect(clippy::cast_precision_loss, reason = "no process has 2^52 bytes")]
fn memory(subject: &Subject) -> f64 {
    subject.memory() as f64 / f64::from(1 << 20)
}

/// Lets this process, and those it starts, open so many files.
fn allow_files(count: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let (most, now) = (limit.maximum.unwrap_or(u64::MAX), limit.current.unwrap_or(u64::MAX));
    ensure!(most >= count, "{count} files are needed, and {most} are allowed; see `ulimit -Hn`");
    if now < most {
        let limit = Rlimit { current: limit.maximum, maximum: limit.maximum };
        setrlimit(Resource::Nofile, limit).context("raising the limit of open files")?;
    }
    Ok(())
}
