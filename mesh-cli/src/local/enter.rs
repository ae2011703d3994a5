//! `mesh supervise`: enters the namespaces and starts the supervisor in them as process 1.
//!
//! It dies with the process that started it, by whatever signal, and the supervisor dies with it; the kernel then ends
//! every process of the pid namespace and frees the rest.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rustix::process::Signal;
use rustix::thread::UnshareFlags;

use crate::sys;

/// Told to the parent when the user namespace exists and wants its maps, and back when they are written.
pub(crate) const UNSHARED: u8 = b'u';
pub(crate) const MAPPED: u8 = b'm';

/// Ends this process when its parent ends. Must be repeated after anything that changes credentials.
pub(crate) fn die_with_parent() -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("tying this process to its parent")
}

/// Takes over standard input, which carries a socket, and puts `/dev/null` in its place.
pub(crate) fn take_stdin() -> anyhow::Result<OwnedFd> {
    let socket =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).context("taking the control socket")?;
    let null = std::fs::File::open("/dev/null").context("opening /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("closing standard input")?;
    Ok(socket)
}

/// Runs until the supervisor ends; its exit code is ours.
pub(crate) fn run() -> anyhow::Result<i32> {
    // Signals of the caller's terminal are for the caller, who then asks for an orderly end.
    rustix::process::setsid().context("starting a session")?;
    let socket = take_stdin()?;
    sys::unshare(UnshareFlags::NEWUSER).context("making a user namespace")?;
    die_with_parent()?;
    exchange(&socket).context("waiting for the user namespace to be mapped")?;
    sys::unshare(
        UnshareFlags::NEWNS
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS
            | UnshareFlags::NEWPID,
    )
    .context("making namespaces")?;
    let mut supervisor = Command::new("/proc/self/exe")
        .arg0("mesh")
        .arg("supervisor")
        .stdin(Stdio::from(socket))
        .spawn()
        .context("starting the supervisor")?;
    Ok(supervisor.wait().context("waiting for the supervisor")?.code().unwrap_or(3))
}

/// An end of file instead of the answer means that the parent has died before the death signal was set.
fn exchange(socket: &OwnedFd) -> anyhow::Result<()> {
    let mut stream = UnixStream::from(socket.try_clone()?);
    stream.write_all(&[UNSHARED])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    anyhow::ensure!(answer[0] == MAPPED, "unexpected answer");
    Ok(())
}
