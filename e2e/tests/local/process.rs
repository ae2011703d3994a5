//! Child processes of the tests: bounded in time, their output kept, ended when dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command that is running.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    stdout: Vec<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a command; its output is read in the background.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is still worth showing.
            let _ = stderr.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self { child, lines, stdout: Vec::new(), stderr: Some(stderr) }
    }

    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of output; none if the output has ended.
    pub(crate) fn line(&mut self, deadline: Duration) -> anyhow::Result<Option<String>> {
        match self.lines.recv_timeout(deadline) {
            Ok(line) => {
                self.stdout.push(line.clone());
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => bail!("no further line of output within {deadline:?}"),
        }
    }

    /// Waits for the end.
    pub(crate) fn finish(mut self, deadline: Duration) -> anyhow::Result<Output> {
        let end = Instant::now() + deadline;
        while self
            .line(end.saturating_duration_since(Instant::now()))
            .context("the command does not end")?
            .is_some()
        {}
        let code = self.child.wait()?.code();
        let stderr = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(Output { code, stdout: self.stdout.join("\n"), stderr })
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let id = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process id");
        // An error means that it has ended by itself.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }

    /// Ends it without warning, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command, deadline: Duration) -> Output {
    let output = Running::start(command).finish(deadline);
    output.unwrap_or_else(|error| panic!("{command:?}: {error:#}"))
}
