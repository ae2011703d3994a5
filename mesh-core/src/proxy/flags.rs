//! The settings that every proxy takes, from flags or from the environment a pod gives it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::broker::Broker;
use crate::engine::Settings;
use crate::model::Role;
use crate::subscribe;

/// Settings of a proxy. Each may be a flag or the environment variable that its help names.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// The control plane's address
    #[arg(long, env = "MESH_CONTROL", value_name = "URL")]
    control: String,
    /// PEM file with the trust anchors of the control plane's certificate
    #[arg(long, env = "MESH_CONTROL_ROOT", value_name = "FILE")]
    control_root: PathBuf,
    /// File with the service-account token; it may be rotated
    #[arg(long, env = "MESH_TOKEN_FILE", value_name = "FILE")]
    token_file: PathBuf,
    /// Memory-backed folder for what outlives a restart of the proxy
    #[arg(long, env = "MESH_STATE_DIR", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Worker threads
    #[arg(long, env = "MESH_WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Who resolves names of destinations outside the mesh, in place of `/etc/resolv.conf`
    #[arg(long, env = "MESH_DNS_UPSTREAM", value_delimiter = ',', value_parser = resolver, value_name = "ADDRESS[:PORT],…")]
    dns_upstream: Vec<SocketAddr>,
    /// PEM file with authorities that count beside the system's where TLS is originated
    #[arg(long, env = "MESH_EXTRA_ROOTS", value_name = "FILE")]
    extra_roots: Option<PathBuf>,
    /// The pod's name
    #[arg(long, env = "POD_NAME")]
    pod: String,
    /// The pod's namespace
    #[arg(long, env = "POD_NAMESPACE")]
    namespace: String,
    /// The pod's UID
    #[arg(long, env = "POD_UID")]
    pod_uid: String,
    /// The pod's address
    #[arg(long, env = "POD_IP")]
    address: IpAddr,
    /// The pod's service account
    #[arg(long, env = "SERVICE_ACCOUNT", default_value = "default")]
    service_account: String,
    /// Seconds to go on serving, no longer ready, after being told to stop
    #[arg(long, env = "MESH_LINGER", default_value_t = 0, value_name = "SECONDS")]
    linger: u16,
    /// Socket, opened by the parent process, on which connections to the outside are asked for
    #[arg(long, env = "MESH_BROKER_FD", value_name = "FD")]
    broker_fd: Option<RawFd>,
}

impl Flags {
    /// Worker threads.
    pub fn workers(&self) -> usize {
        usize::from(self.workers)
    }

    /// The pod's address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How long to go on serving after being told to stop.
    pub(super) fn linger(&self) -> Duration {
        Duration::from_secs(self.linger.into())
    }

    pub(super) fn broker(&self) -> io::Result<Option<Broker>> {
        self.broker_fd.map(Broker::inherited).transpose()
    }

    /// The engine's settings, with what these flags say of destinations outside.
    pub(super) fn complete(&self, settings: Settings) -> Settings {
        Settings { resolvers: self.dns_upstream.clone(), extra_roots: self.extra_roots.clone(), ..settings }
    }

    pub(super) fn subscription(&self, role: Role) -> subscribe::Settings {
        subscribe::Settings {
            control: self.control.clone(),
            anchors_file: self.control_root.clone(),
            token_file: self.token_file.clone(),
            state: self.state_dir.clone(),
            role,
            pod: self.pod.clone(),
            namespace: self.namespace.clone(),
            pod_uid: self.pod_uid.clone(),
            service_account: self.service_account.clone(),
            address: self.address.to_string(),
        }
    }
}

fn resolver(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    address.or_else(|_| text.parse()).map_err(|_| format!("{text:?} is not an address"))
}
