//! The way out of a private network: connections and names that another process, outside, opens and looks up for us.
//!
//! Under `mesh up` a pod's network leads to other pods and nowhere else. Its proxy inherits one socket on which it may ask the
//! parent, which is in the host's network, for a connected socket to an address, or for the addresses of a name. Applications
//! do not get that socket: what leaves the mesh leaves through a proxy.
//!
//! One question is one datagram on a `SOCK_SEQPACKET` socket, with one end of a fresh pair beside it on which the answer
//! comes. So any number of threads and processes may share the socket without numbering questions, a question is given up
//! by closing the pair, and nobody gets an answer that was meant for another.
//!
//! What this does not do: it decides nothing about what is allowed (whoever answers does), and it carries no UDP.

mod message;
mod questions;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{OwnedFd, RawFd};

pub use message::{Answer, Request};
pub use questions::{Question, Questions};

/// The name under which a pod knows the machine that it runs on, where that is allowed.
pub const HOST_NAME: &str = "host.mesh.internal";
/// The address of [`HOST_NAME`]: of the reserved block 240.0.0.0/4, so that it is nobody else's.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);

/// The networks inside of a mesh on one machine: pods, services, and services that had no address of their own.
const INSIDE: [[u8; 2]; 3] = [[10, 244], [10, 96], [240, 240]];

/// Whether an address belongs to the mesh or to the pod itself, so that no way out leads to it.
pub fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_loopback() || address.is_unspecified() || INSIDE.contains(&[first, second])
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified(),
    }
}

/// Asks for what is outside.
#[derive(Debug)]
pub struct Broker {
    socket: OwnedFd,
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// It is not allowed, and why.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// Too much is being opened at once.
    #[error("too many connections to the outside are being opened at once")]
    Busy,
    /// Not done in the time that the other side gives itself.
    #[error("not done in time")]
    Late,
    /// There is no such name.
    #[error("no such name")]
    NoSuchName,
    /// The system refused.
    #[error("{0}")]
    System(io::Error),
    /// The process that opens connections did not answer.
    #[error("the process that opens connections to the outside does not answer")]
    Gone(#[source] io::Error),
}

impl From<BrokerError> for io::Error {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::System(error) => error,
            BrokerError::NoSuchName => Self::new(io::ErrorKind::NotFound, error),
            BrokerError::Late => Self::new(io::ErrorKind::TimedOut, error),
            BrokerError::Forbidden(_) => Self::new(io::ErrorKind::PermissionDenied, error),
            BrokerError::Busy | BrokerError::Gone(_) => Self::other(error),
        }
    }
}

impl Broker {
    /// A socket for whoever asks, and one for whoever answers.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
        socket::pair()
    }

    /// Asks on this socket.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Asks on a socket that the parent process has left open under this number.
    ///
    /// # Errors
    /// When nothing is open under it.
    pub fn inherited(descriptor: RawFd) -> io::Result<Self> {
        use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
        // Through the kernel's check, so that a wrong number is an error and not undefined behaviour.
        let ourselves = pidfd_open(getpid(), PidfdFlags::empty())?;
        Ok(Self::new(pidfd_getfd(&ourselves, descriptor, PidfdGetfdFlags::empty())?))
    }

    /// A connection to an address outside, non-blocking. The caller bounds the time; to drop the future gives it up.
    ///
    /// # Errors
    /// When there is none; see [`BrokerError`].
    pub async fn connect(&self, address: SocketAddr) -> Result<TcpStream, BrokerError> {
        match self.ask(&Request::Connect(address)).await? {
            (Answer::Connected, Some(socket)) => Ok(TcpStream::from(socket)),
            (answer, _) => Err(answer.into_error()),
        }
    }

    /// The addresses of a name outside.
    ///
    /// # Errors
    /// When there are none; see [`BrokerError`].
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, BrokerError> {
        match self.ask(&Request::Resolve(name.to_owned())).await? {
            (Answer::Addresses(addresses), _) if addresses.is_empty() => Err(BrokerError::NoSuchName),
            (Answer::Addresses(addresses), _) => Ok(addresses),
            (answer, _) => Err(answer.into_error()),
        }
    }

    async fn ask(&self, request: &Request) -> Result<(Answer, Option<OwnedFd>), BrokerError> {
        let (ours, theirs) = socket::pair().map_err(BrokerError::System)?;
        match socket::send(&self.socket, request.to_string().as_bytes(), Some(&theirs)) {
            Ok(()) => {}
            // The queue is full: to wait would only move it here.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(BrokerError::Busy),
            Err(error) => return Err(BrokerError::Gone(error)),
        }
        drop(theirs);
        let received = socket::receive(&socket::watch(ours).map_err(BrokerError::System)?).await;
        let (bytes, descriptor) = received.map_err(BrokerError::Gone)?;
        let answer =
            Answer::parse(&bytes).ok_or_else(|| BrokerError::Gone(io::ErrorKind::InvalidData.into()))?;
        Ok((answer, descriptor))
    }
}

impl Answer {
    fn into_error(self) -> BrokerError {
        match self {
            Self::Forbidden(why) => BrokerError::Forbidden(why),
            Self::Busy => BrokerError::Busy,
            Self::Late => BrokerError::Late,
            Self::NoSuchName => BrokerError::NoSuchName,
            Self::System(number) => BrokerError::System(io::Error::from_raw_os_error(number)),
            // An answer to another question than ours.
            Self::Connected | Self::Addresses(_) => BrokerError::Gone(io::ErrorKind::InvalidData.into()),
        }
    }
}
