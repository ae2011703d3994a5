//! Listening sockets that somebody else has opened for us: `mesh up` opens a gateway's ports on the host.

use std::collections::HashMap;
use std::net::TcpListener;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// The listeners that `list` names, `PORT=DESCRIPTOR,…`, by port.
///
/// Descriptors are duplicated through the kernel's check rather than taken by number, so a number that is not an open
/// descriptor is an error and not undefined behaviour.
///
/// # Errors
/// When an entry is not of that form, or its descriptor is not an open socket.
pub fn inherited_listeners(list: &str) -> Result<HashMap<u16, TcpListener>, InheritedError> {
    if list.is_empty() {
        return Ok(HashMap::new());
    }
    let ourselves = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|source| InheritedError::Descriptor { entry: list.to_owned(), source })?;
    let mut listeners = HashMap::new();
    for entry in list.split(',').filter(|entry| !entry.is_empty()) {
        let malformed = || InheritedError::Form(entry.to_owned());
        let (port, descriptor) = entry.split_once('=').ok_or_else(malformed)?;
        let port = port.parse().map_err(|_| malformed())?;
        let descriptor = descriptor.parse().map_err(|_| malformed())?;
        let socket = pidfd_getfd(&ourselves, descriptor, PidfdGetfdFlags::empty())
            .map_err(|source| InheritedError::Descriptor { entry: entry.to_owned(), source })?;
        let listener = TcpListener::from(socket);
        let ready = listener.set_nonblocking(true).and_then(|()| listener.local_addr());
        ready.map_err(|source| InheritedError::Socket { entry: entry.to_owned(), source })?;
        listeners.insert(port, listener);
    }
    Ok(listeners)
}

/// Why a listener could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    /// Not `PORT=DESCRIPTOR`.
    #[error("MESH_LISTEN_FDS: {0:?} is not PORT=DESCRIPTOR")]
    Form(String),
    /// Not an open descriptor.
    #[error("MESH_LISTEN_FDS: {entry:?} names a descriptor that is not open")]
    Descriptor {
        /// The entry.
        entry: String,
        /// What the kernel says.
        #[source]
        source: rustix::io::Errno,
    },
    /// Not a TCP socket.
    #[error("MESH_LISTEN_FDS: {entry:?} does not name a TCP socket")]
    Socket {
        /// The entry.
        entry: String,
        /// What the kernel says.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn sockets_are_taken_over_by_number() {
        let opened = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = inherited_listeners(&format!("80={}", opened.as_raw_fd())).unwrap();
        assert_eq!(taken[&80].local_addr().unwrap(), opened.local_addr().unwrap());
    }

    #[test]
    fn what_is_not_a_socket_is_refused_by_name() {
        for (list, refused) in
            [("80", "80"), ("80=x", "80=x"), ("99999=3", "99999=3"), ("80=999999", "80=999999")]
        {
            assert!(inherited_listeners(list).unwrap_err().to_string().contains(refused), "{list}");
        }
    }
}
