//! `mesh up`: starts a mesh and stays with it, or leaves it running in the background.

use std::io::{BufReader, IsTerminal as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, status};
use crate::cli::{Isolation, Up};
use crate::local::broker::HostAccess;
use crate::local::launch::{self, Error, Options, Running};
use crate::local::manifest;
use crate::local::protocol::{Event, IdentityMap};
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Set for the process that keeps a detached mesh; its standard error then ends when the mesh is up.
const BACKGROUND: &str = "MESH_BACKGROUND";

/// Signals closer together are one: a wrapper such as `timeout` passes on what the terminal also sends us.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Runs the command.
pub(crate) fn run(flags: Up, output: &Output) -> anyhow::Result<ExitCode> {
    if flags.isolation == Isolation::Loopback {
        let message = "--isolation loopback is not there yet; netns needs no root, only user namespaces";
        return Err(Failure::Usage(message.to_owned()).into());
    }
    if flags.detach && std::env::var_os(BACKGROUND).is_none() {
        return detach(&flags, output);
    }
    let objects = manifest::read(&flags.files)?;
    super::show_problems(&flags.files, output);
    // Before anything is started: containers that cannot run are the user's most likely mistake.
    crate::local::controllers::desired(objects.iter())?;
    let host = if flags.allow_host { HostAccess::Allowed } else { HostAccess::Refused };
    let options = Options {
        name: flags.mesh.name,
        http_port: flags.http_port,
        https_port: flags.https_port,
        host,
        objects,
    };
    run_local(async {
        let running = launch::start(options, |text| output.starting(text)).await.map_err(refused)?;
        attend(running, flags.detach, output).await
    })
}

fn refused(error: Error) -> anyhow::Error {
    match error {
        Error::NoNamespaces { .. } => Failure::Unreachable(format!(
            "{error}\nmesh up needs user namespaces: see `sysctl user.max_user_namespaces`, and \
             `kernel.apparmor_restrict_unprivileged_userns` on Ubuntu; `--isolation loopback` is not there yet"
        ))
        .into(),
        Error::AlreadyRuns { .. } | Error::PortTaken { .. } => Failure::Unreachable(error.to_string()).into(),
        Error::Other(error) => error,
    }
}

/// Shows progress, then waits for Ctrl-C or the end of the mesh.
async fn attend(mut running: Running, background: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let mut interrupts =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    let [interrupt, terminate, hangup] = &mut interrupts;
    if running.identity == IdentityMap::Single {
        output.note("running without root: everything in the mesh is one user, so capture exempts proxies by socket mark only");
    }
    let mut stopping = None;
    let mut failed = false;
    loop {
        tokio::select! {
            event = running.event() => match event {
                Some(event) => {
                    failed |= matches!(event, Event::Failed { .. });
                    show(&event, output);
                    if let Event::Up { status } = event {
                        finish_start(&status, background, output)?;
                    }
                    if failed && stopping.is_none() {
                        stopping = Some(Instant::now());
                        running.ask_to_stop().await;
                    }
                }
                None if failed => return Ok(ExitCode::FAILURE),
                None if stopping.is_some() => return Ok(ExitCode::SUCCESS),
                None => return ended(&mut running),
            },
            _ = interrupt.recv() => stop(&running, &mut stopping, output).await,
            _ = terminate.recv() => stop(&running, &mut stopping, output).await,
            _ = hangup.recv() => stop(&running, &mut stopping, output).await,
        }
    }
}

async fn stop(running: &Running, stopping: &mut Option<Instant>, output: &Output) {
    match stopping {
        // Asked twice: everything goes with this process.
        Some(since) if since.elapsed() > SAME_SIGNAL => std::process::exit(130),
        Some(_) => return,
        None => *stopping = Some(Instant::now()),
    }
    output.note("stopping; once more ends it at once");
    running.ask_to_stop().await;
}

/// Ended by `mesh down`, or unexpectedly.
fn ended(running: &mut Running) -> anyhow::Result<ExitCode> {
    let words = running.last_words();
    if words.is_empty() || words == "the supervisor ended unexpectedly" {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::Unreachable(words).into())
}

fn finish_start(
    status: &crate::local::protocol::Status,
    background: bool,
    output: &Output,
) -> anyhow::Result<()> {
    if output.is_json() {
        output.json_line(status)?;
    } else {
        status::services(status, output);
    }
    if background {
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").context("opening /dev/null")?;
        rustix::stdio::dup2_stdout(&null).context("closing standard output")?;
        rustix::stdio::dup2_stderr(&null).context("closing standard error")?;
    } else if std::io::stderr().is_terminal() {
        output.note("the mesh is up; Ctrl-C ends it and leaves nothing behind");
    }
    Ok(())
}

/// Shows one event.
pub(super) fn show(event: &Event, output: &Output) {
    match event {
        Event::Starting { subject } => output.starting(subject),
        Event::Ready { subject, after } => output.ready(subject, *after),
        Event::Waiting { subject, reason, log } => output.waiting(subject, reason, log),
        Event::Failed { message } => output.error(&anyhow::anyhow!(message.clone())),
        Event::Up { .. } => {}
    }
}

/// Starts the same command in a session of its own, relays what it says until the mesh is up, and leaves it running.
fn detach(flags: &Up, output: &Output) -> anyhow::Result<ExitCode> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mesh").args(std::env::args_os().skip(1)).env(BACKGROUND, "1");
    // A process group of its own is what keeps the terminal's signals away.
    command.process_group(0).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting the background process")?;
    if let Some(lines) = child.stderr.take() {
        relay(BufReader::new(lines))?;
    }
    // The end of its output is either the end of the start or its own end.
    match wait_briefly(&mut child)? {
        Some(status) => Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(3)).unwrap_or(3))),
        None => status::exit_code(&flags.mesh.name, output),
    }
}

fn relay(mut lines: impl std::io::BufRead) -> anyhow::Result<()> {
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).context("reading progress")? > 0 {
        anstream::eprint!("{}", String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

fn wait_briefly(child: &mut std::process::Child) -> anyhow::Result<Option<std::process::ExitStatus>> {
    for _ in 0..20 {
        if let Some(status) = child.try_wait().context("waiting for the background process")? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(None)
}
