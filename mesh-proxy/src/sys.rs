//! The few system calls that no safe crate offers; the only unsafe code of this program.
#![expect(
    unsafe_code,
    reason = "socket options without a safe wrapper; and in tests, a hook between fork and exec"
)]

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd};

/// Marks a socket, so that the capture rules leave its packets alone.
///
/// Needs CAP_NET_ADMIN (or CAP_NET_RAW since Linux 5.17) in the namespace's user namespace; a proxy without it
/// relies on its uid instead.
pub(crate) fn mark_socket(socket: impl AsFd, mark: NonZeroU32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.get().cast_signed())
}

/// Asks a netlink socket for error texts beside error numbers, and for errors without a copy of the request.
pub(crate) fn want_extended_acknowledgements(socket: impl AsFd) -> io::Result<()> {
    set_option(&socket, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
    set_option(&socket, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)
}

fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "an integer has 4 bytes")]
    const LENGTH: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed for the call, and the kernel reads LENGTH bytes of a live integer.
    let outcome = unsafe { libc::setsockopt(descriptor, level, name, (&raw const value).cast(), LENGTH) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Starts `command` as root of a new user namespace with a network namespace of its own.
#[cfg(test)]
pub(crate) fn isolate(command: &mut std::process::Command) -> &mut std::process::Command {
    use rustix::fs::{Mode, OFlags, open};
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    use std::os::unix::process::CommandExt;

    let map = format!("0 {} 1", rustix::process::geteuid().as_raw());
    let enter = move || {
        // SAFETY: the child has one thread and shares no descriptor table that anyone relies on.
        unsafe { unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET) }?;
        // Unmapped, the exec that follows would drop the capabilities again.
        let file = open("/proc/self/uid_map", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&file, map.as_bytes())?;
        Ok(())
    };
    // SAFETY: the hook makes system calls only; it neither allocates nor takes locks.
    unsafe { command.pre_exec(enter) }
}

/// Moves the calling thread into a new network namespace.
#[cfg(test)]
pub(crate) fn enter_new_network() -> io::Result<()> {
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: only this thread's network namespace changes; no memory or descriptor is affected.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}
