//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The control plane of the mesh.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "mesh-control", version, about)]
pub struct Settings {
    /// A file or folder with the mesh's objects; followed for changes. May be given several times.
    #[arg(long, required = true)]
    pub source: Vec<PathBuf>,
    /// Where proxies reach us: certificates and configuration.
    #[arg(long, default_value = "0.0.0.0:15012")]
    pub listen: SocketAddr,
    /// Where probes, metrics and status are served.
    #[arg(long, default_value = "127.0.0.1:15014")]
    pub admin: SocketAddr,
    /// Where DNS queries of pods without a proxy are answered; nowhere when absent.
    #[arg(long)]
    pub dns: Option<SocketAddr>,
    /// Socket, opened by the parent process, on which names outside of the mesh are asked for.
    #[arg(long, env = "MESH_BROKER_FD", value_name = "FD")]
    pub broker_fd: Option<i32>,
    /// A JWK set file with the keys of service-account tokens.
    #[arg(long)]
    pub token_keys: PathBuf,
    /// The folder that keeps the certificate authority; made private to us.
    #[arg(long)]
    pub state: PathBuf,
    /// A file to which the mesh's root certificate is written once we serve.
    #[arg(long)]
    pub root_out: Option<PathBuf>,
    /// Injection and validation of objects for a cluster's API server.
    #[command(flatten)]
    pub admission: crate::admission::Flags,
}
