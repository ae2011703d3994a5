//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::ca::succession::Pace;
use crate::source::kubernetes::DEFAULT_NAMESPACES;

/// The control plane of the mesh.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "mesh-control", version, about)]
pub struct Settings {
    /// A file or folder with the mesh's objects; followed for changes. May be given several times.
    #[arg(long, required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub source: Vec<PathBuf>,
    /// Follow the objects of a Kubernetes cluster: the one we run in, or that of KUBECONFIG.
    #[arg(long)]
    pub kubernetes: bool,
    #[command(flatten)]
    pub cluster: Cluster,
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
    #[arg(long, required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub token_keys: Option<PathBuf>,
    /// The folder that keeps the certificate authority; made private to us.
    #[arg(long, required_unless_present = "kubernetes", conflicts_with = "kubernetes")]
    pub state: Option<PathBuf>,
    /// A file to which the mesh's root certificate is written once we serve.
    #[arg(long)]
    pub root_out: Option<PathBuf>,
    #[command(flatten)]
    pub pace: AuthorityPace,
    /// Injection and validation of objects for a cluster's API server.
    #[command(flatten)]
    pub admission: crate::admission::Flags,
}

/// Settings that only a cluster needs.
#[derive(Debug, Clone, clap::Args)]
pub struct Cluster {
    /// The namespace we are installed in; the certificate authority and the leader's lease are there.
    #[arg(long, env = "POD_NAMESPACE", default_value = "mesh-system")]
    pub namespace: String,
    /// Our name among the replicas.
    #[arg(long, env = "POD_NAME", default_value = "mesh-control")]
    pub pod: String,
    /// Label selector of the namespaces whose objects count.
    #[arg(long, default_value = DEFAULT_NAMESPACES, value_name = "SELECTOR")]
    pub namespaces: String,
    /// Also serve Ingresses of class `nginx`; only where no ingress-nginx does.
    #[arg(long)]
    pub claim_nginx: bool,
}

/// How fast one certificate authority follows another; for tests, and for who must be fast.
#[derive(Debug, Clone, clap::Args)]
pub struct AuthorityPace {
    /// Seconds that a new authority is introduced at least before it signs.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub authority_introduce: u64,
    /// Seconds within which proxies renew once a new authority signs.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub authority_renew: u64,
    /// Seconds that the old authority is trusted after that. Less than a day cuts off proxies that could not renew.
    #[arg(long, default_value_t = 86_700, value_name = "SECONDS")]
    pub authority_retire: u64,
}

impl AuthorityPace {
    /// What was asked for.
    pub fn pace(&self) -> Pace {
        let [introduce, renew, retire] =
            [self.authority_introduce, self.authority_renew, self.authority_retire];
        let [introduce, renew, retire] = [introduce, renew, retire].map(Duration::from_secs);
        Pace { introduce, renew, retire, ..Pace::default() }
    }
}
