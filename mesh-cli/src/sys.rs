//! The system calls that have no safe wrapper, and nothing else.
#![expect(
    unsafe_code,
    reason = "unshare(2), close_range(2), signal(2) and taking over an inherited descriptor"
)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::thread::UnshareFlags;

/// Moves the calling thread into new namespaces (`unshare(2)`). `FILES` must not be among the flags.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: only a separate descriptor table can break memory safety, and FILES is never asked for.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Takes over a descriptor that the parent process left open for us under a number it told us.
/// Called once per number, first thing in `main`, before anything else can have opened it.
pub(crate) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    if descriptor < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptors 0 to 2 are standard streams"));
    }
    // SAFETY: F_GETFD reads no memory; it fails if the number is not open.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, was opened for us by the parent, and nothing else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Marks every descriptor except the standard streams and `kept` to be closed by the next `exec`.
pub(crate) fn close_on_exec_except(kept: &[RawFd]) -> io::Result<()> {
    let mut kept: Vec<u32> = kept.iter().filter_map(|descriptor| u32::try_from(*descriptor).ok()).collect();
    kept.sort_unstable();
    let mut first = 3_u32;
    for descriptor in kept.into_iter().chain([u32::MAX]) {
        if descriptor > first {
            let last = if descriptor == u32::MAX { u32::MAX } else { descriptor - 1 };
            close_range_on_exec(first, last)?;
        }
        first = descriptor.saturating_add(1);
    }
    Ok(())
}

fn close_range_on_exec(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: CLOSE_RANGE_CLOEXEC only sets a flag on descriptors; it closes nothing now.
    let result = unsafe { libc::close_range(first, last, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a reader that closes its end early, such as `head`, end this process quietly instead of with an error.
pub(crate) fn end_quietly_on_broken_pipe() {
    // SAFETY: SIG_DFL installs no handler of ours, and this runs before there are other threads.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}
