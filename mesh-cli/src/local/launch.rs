//! The parent of a local mesh: opens what belongs to the host and starts the supervisor in its namespaces.
//!
//! It is the only process that stays in the host's namespaces. It opens the ingress ports and the control socket,
//! writes the maps of the user namespace, and hands everything down over one socket pair. While the mesh runs it opens
//! the connections that proxies ask for (see [`super::broker`]).

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, anyhow, bail};

use super::broker::{Broker, HostAccess};
use super::channel::{Channel, Receiver, Sender};
use super::enter::{MAPPED, UNSHARED};
use super::manifest::Object;
use super::protocol::{Event, IdentityMap, Request, Start, ToParent};
use super::siblings;

/// What to start.
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) http_port: u16,
    pub(crate) https_port: u16,
    pub(crate) host: HostAccess,
    pub(crate) objects: Vec<Object>,
}

/// A mesh that is starting or running.
pub(crate) struct Running {
    sender: Sender,
    receiver: Receiver,
    broker: Broker,
    supervisor: Child,
    pub(crate) identity: IdentityMap,
}

/// Why a mesh could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("a mesh named `{name}` already runs; `mesh down --name {name}` ends it, `--name` starts another")]
    AlreadyRuns { name: String },
    #[error(
        "port {port} of 127.0.0.1 is taken ({source}); choose another with {flag}, or 0 for any free one"
    )]
    PortTaken { port: u16, flag: &'static str, source: std::io::Error },
    #[error("this machine does not let us make namespaces: {reason}")]
    NoNamespaces { reason: String },
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Ports that a gateway is known by, for the host's HTTP and HTTPS port: as Services name them and as Istio's gateway
/// listens on them behind its Service.
const HTTP_PORTS: [u16; 2] = [80, 8080];
const HTTPS_PORTS: [u16; 2] = [443, 8443];

/// The control socket of a mesh: abstract, so that it vanishes with its last holder, and per user.
pub(crate) fn control_address(name: &str) -> std::io::Result<UnixAddress> {
    UnixAddress::from_abstract_name(format!("mesh-{}-{name}", rustix::process::geteuid().as_raw()))
}

/// Starts the supervisor and hands it everything; the mesh comes up in the background from then on.
pub(crate) async fn start(options: Options, announce: impl FnOnce(&str)) -> Result<Running, Error> {
    let control = bind_control(&options.name)?;
    let http = bind_ingress(options.http_port, "--http-port")?;
    let https = bind_ingress(options.https_port, "--https-port")?;
    let binaries = siblings::locate(&options.objects, announce)?;
    let (ours, theirs) = UnixStream::pair().context("making a socket pair")?;
    let mut supervisor = spawn(theirs)?;
    let identity = match map_identities(&ours, &supervisor) {
        Ok(identity) => identity,
        Err(error) => return Err(Error::NoNamespaces { reason: last_words(&mut supervisor, &error) }),
    };
    let channel = Channel::new(ours.into()).context("using the socket pair")?;
    let address = |scheme: &str, listener: &TcpListener| {
        listener
            .local_addr()
            .map(|address| format!("{scheme}://{address}"))
            .context("reading a listener's address")
    };
    let start = Start {
        name: options.name,
        binaries,
        search_path: std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned()),
        home: std::env::var("HOME").unwrap_or_else(|_| "/".to_owned()),
        certificates: std::env::var("SSL_CERT_FILE").ok().filter(|path| !path.is_empty()),
        ingress_ports: HTTP_PORTS.into_iter().chain(HTTPS_PORTS).collect(),
        ingress_addresses: vec![address("http", &http)?, address("https", &https)?],
        identity,
        objects: options.objects,
    };
    let listeners = std::iter::repeat_n(http.as_fd(), HTTP_PORTS.len())
        .chain(std::iter::repeat_n(https.as_fd(), HTTPS_PORTS.len()));
    let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(control.as_fd()).chain(listeners).collect();
    channel.sender.send_with(&start, &descriptors).await.context("handing over to the supervisor")?;
    let broker = Broker::new(options.host);
    Ok(Running { sender: channel.sender, receiver: channel.receiver, broker, supervisor, identity })
}

impl Running {
    /// The next thing to tell; `None` when the mesh has ended.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            // A broken socket is the end as well.
            let (message, descriptors) = self.receiver.receive::<ToParent>().await.ok().flatten()?;
            match message {
                ToParent::Tell(event) => return Some(event),
                ToParent::Outside => descriptors.into_iter().for_each(|socket| self.broker.serve(socket)),
            }
        }
    }

    /// Asks for an orderly end; the end itself is when [`Self::event`] returns `None`.
    pub(crate) async fn ask_to_stop(&self) {
        let _ = self.sender.send(&Request::Down).await;
    }

    /// What the supervisor wrote before it ended unexpectedly.
    pub(crate) fn last_words(&mut self) -> String {
        last_words(&mut self.supervisor, &anyhow!("the supervisor ended unexpectedly"))
    }
}

fn bind_control(name: &str) -> Result<UnixListener, Error> {
    let address = control_address(name).with_context(|| format!("`{name}` cannot be the name of a mesh"))?;
    UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Error::AlreadyRuns { name: name.to_owned() },
        _ => Error::Other(anyhow!(error).context("opening the control socket")),
    })
}

fn bind_ingress(port: u16, flag: &'static str) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .map_err(|source| Error::PortTaken { port, flag, source })?;
    // The gateway accepts on an event loop.
    listener.set_nonblocking(true).context("preparing a listener")?;
    Ok(listener)
}

fn spawn(socket: UnixStream) -> Result<Child, Error> {
    let child = Command::new("/proc/self/exe")
        .arg0("mesh")
        .arg("supervise")
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    Ok(child.context("starting the supervisor")?)
}

/// Waits for the user namespace and maps it: fully if we may, else only the caller.
fn map_identities(mut socket: &UnixStream, supervisor: &Child) -> anyhow::Result<IdentityMap> {
    let mut told = [0];
    socket.read_exact(&mut told).context("the supervisor ended")?;
    if told[0] != UNSHARED {
        bail!("unexpected answer of the supervisor");
    }
    let folder = format!("/proc/{}", supervisor.id());
    let write = |file: &str, text: &str| {
        std::fs::write(format!("{folder}/{file}"), text).with_context(|| format!("writing {folder}/{file}"))
    };
    let full = "0 0 65536\n";
    let identity = if rustix::process::geteuid().is_root() && write("uid_map", full).is_ok() {
        write("gid_map", full)?;
        IdentityMap::Full
    } else {
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        write("uid_map", &format!("0 {user} 1\n"))?;
        // Demanded of unprivileged callers, so that group memberships cannot be dropped (user_namespaces(7)).
        write("setgroups", "deny")?;
        write("gid_map", &format!("0 {group} 1\n"))?;
        IdentityMap::Single
    };
    socket.write_all(&[MAPPED]).context("answering the supervisor")?;
    Ok(identity)
}

fn last_words(supervisor: &mut Child, error: &anyhow::Error) -> String {
    // It has ended or is of no use any more.
    let _ = supervisor.kill();
    let mut text = String::new();
    if let Some(mut output) = supervisor.stderr.take() {
        let _ = output.read_to_string(&mut text);
    }
    let _ = supervisor.wait();
    if text.trim().is_empty() { format!("{error:#}") } else { text.trim().to_owned() }
}
