//! Children of a process 1: starts them, and reaps them as well as the orphans it inherits.
//!
//! There is one reaper per process and it alone waits, because `waitpid(-1)` would otherwise take the exit
//! status from whoever else waits. Spawning and registering happen without an await between them on the one
//! thread of the runtime, so that no exit can be missed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::process::Command;
use std::rc::Rc;

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended, as a shell would put it: its exit code, or 128 plus the signal.
pub(crate) type ExitCode = i32;

/// Starts and reaps processes.
pub(crate) struct Reaper {
    awaited: RefCell<HashMap<Pid, oneshot::Sender<ExitCode>>>,
}

/// A running child. Dropping it neither stops nor forgets the process: the reaper still reaps it.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    exit: oneshot::Receiver<ExitCode>,
}

impl Reaper {
    /// Begins to reap; must be called inside a `LocalSet`, before any child is started.
    pub(crate) fn start() -> io::Result<Rc<Self>> {
        let mut child_signal = signal(SignalKind::child())?;
        let reaper = Rc::new(Self { awaited: RefCell::default() });
        let shared = Rc::clone(&reaper);
        tokio::task::spawn_local(async move {
            while child_signal.recv().await.is_some() {
                shared.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a command.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Process> {
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a positive pid");
        let (sender, exit) = oneshot::channel();
        self.awaited.borrow_mut().insert(pid, sender);
        Ok(Process { pid, exit })
    }

    fn reap(&self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if let Some(sender) = self.awaited.borrow_mut().remove(&pid) {
                // A receiver that is gone no longer cares.
                let _ = sender.send(exit_code(status));
            }
        }
    }
}

impl Process {
    /// Waits for the end; may be dropped and called again.
    pub(crate) async fn wait(&mut self) -> ExitCode {
        (&mut self.exit).await.unwrap_or(255)
    }

    /// Sends a signal to the process and everything in its group.
    pub(crate) fn signal_group(&self, signal: Signal) {
        // Already gone is what the caller wants anyway; a process that did not yet become a leader gets it alone.
        if rustix::process::kill_process_group(self.pid, signal).is_err() {
            let _ = rustix::process::kill_process(self.pid, signal);
        }
    }
}

fn exit_code(status: WaitStatus) -> ExitCode {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}
