//! Processes of a subject, and what the kernel says that they used.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// For a program to listen, and for one that is asked to end: with room for valgrind, under which all is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that hardly runs for so long has nothing to do.
const QUIET: Duration = Duration::from_secs(1);

/// How the program that is measured is started.
#[derive(Clone, Copy)]
pub(crate) enum Launch<'a> {
    /// As it is.
    Plain,
    /// Under valgrind, which counts its instructions once it is told to, and writes where they went into this file.
    Counted(&'a Path),
}

impl Launch<'_> {
    /// A command that runs the program; its arguments are to be added.
    pub(crate) fn command(self, program: &Path) -> Command {
        let Self::Counted(file) = self else { return Command::new(program) };
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--fair-sched=yes", "--instr-atstart=no"]);
        command.arg(format!("--callgrind-out-file={}", file.display())).arg(program);
        command
    }
}

/// A process that ends, with its children, when this is dropped.
pub(crate) struct Running {
    child: Child,
}

impl Running {
    /// Starts a program without input; its output goes to a file that an error can quote.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = std::fs::File::create(log).with_context(|| format!("creating {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        Ok(Self { child })
    }

    /// Takes over a process that was started otherwise.
    pub(crate) const fn of(child: Child) -> Self {
        Self { child }
    }

    /// Waits until something listens.
    pub(crate) async fn listening(&mut self, address: SocketAddr, log: &Path) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return Ok(());
            }
            let output = || std::fs::read_to_string(log).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status} before it listened\n{}", output());
            }
            if Instant::now() > end {
                bail!("does not listen on {address} after {PATIENCE:?}\n{}", output());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets valgrind begin or end counting.
    pub(crate) fn count(&self, state: &str) -> anyhow::Result<()> {
        let id = format!("--pid={}", self.child.id());
        let output = Command::new("vgdb").args([&id, "instrumentation", state]).output();
        let output = output.context("running vgdb, which comes with valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "valgrind does not do as it is told: {said}");
        Ok(())
    }

    /// Waits until it does nothing of its own accord: long configurations come in more than one message.
    pub(crate) async fn quiet(&self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut before = self.processor_time();
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.processor_time();
            if now - before < QUIET / 20 {
                return Ok(());
            }
            ensure!(Instant::now() < end, "is still busy after {PATIENCE:?}, without requests");
            before = now;
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) async fn finish(mut self) -> anyhow::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.context("no such process")?, rustix::process::Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "has not ended after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// The process and its descendants.
    pub(crate) fn family(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let mut at = 0;
        while let Some(id) = found.get(at) {
            found.extend(children(*id));
            at += 1;
        }
        found
    }

    /// Processor time that it and its descendants have used.
    pub(crate) fn processor_time(&self) -> Duration {
        self.family().into_iter().map(processor_time).sum()
    }

    /// Memory that it and its descendants hold, shared pages by share (PSS), in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.family().into_iter().map(memory).sum()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for id in self.family().into_iter().rev() {
            if let Some(id) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
                // One that is gone already needs no end.
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// The processes that a process's threads have started.
fn children(id: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return Vec::new() };
    let of_thread = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("children")).ok();
    let all: Vec<String> = threads.flatten().filter_map(of_thread).collect();
    all.iter().flat_map(|text| text.split_whitespace()).filter_map(|id| id.parse().ok()).collect()
}

/// What a process runs, as the kernel names it (15 bytes at most).
pub(crate) fn program(id: u32) -> String {
    std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// A program of the mesh, beside this one.
pub(crate) fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let file = std::env::current_exe()?.with_file_name(name);
    ensure!(
        file.is_file(),
        "{} is missing; `cargo build --release --workspace --bins` makes it",
        file.display()
    );
    Ok(file)
}

/// Time on a processor, user and system together, of all threads that live, in the scheduler's nanoseconds.
///
/// `stat` counts in ticks of 10 ms, too coarse for rounds of seconds.
pub(crate) fn processor_time(id: u32) -> Duration {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{id}/task")) else { return Duration::ZERO };
    let of_thread = |thread: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(of_thread).sum())
}

/// Memory of a process, shared pages by share (PSS), in bytes.
pub(crate) fn memory(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
