//! DNS capture joined to the control plane's lookups: a captured query also starts the lookup of what will be dialled.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::engine::{MARK, nameservers};
use mesh_core::model::{Host, Root};
use mesh_core::proxy::Shared;
use mesh_core::snapshot;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::dns::{self, Lookup};

/// The port that capture leads queries to.
const PORT: u16 = 15053;
/// How long the control plane is waited for: less than the 5 s after which resolvers ask again.
const PATIENCE: Duration = Duration::from_secs(4);

/// Settings of DNS capture.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "names")]
pub(crate) struct Flags {
    /// The domain of the cluster's services
    #[arg(long, env = "MESH_CLUSTER_DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// A resolv.conf whose name servers answer for names outside the mesh; without one such names do not exist
    #[arg(long, env = "MESH_UPSTREAM_RESOLV_CONF", value_name = "FILE")]
    upstream_resolv_conf: Option<PathBuf>,
}

/// Serves captured queries until `stop`.
pub(crate) async fn serve(flags: Flags, shared: Shared, stop: CancellationToken) -> io::Result<()> {
    let cluster_domain = Host::parse(&flags.cluster_domain).map_err(io::Error::other)?;
    let upstream = match &flags.upstream_resolv_conf {
        Some(path) => nameservers(&std::fs::read_to_string(path)?),
        None => Vec::new(),
    };
    let settings = dns::Settings::new(cluster_domain, upstream, NonZeroU32::new(MARK));
    let metrics = Arc::clone(&shared.metrics);
    let lookup = async move |name: Host| look_up(&shared, name).await;
    let server = Rc::new(dns::Server::new(settings, lookup, metrics));
    let listeners = dns::Listeners::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT))).await?;
    let tasks = LocalSet::new();
    tokio::select! {
        () = tasks.run_until(server.serve(listeners)) => {}
        () = stop.cancelled() => {}
    }
    Ok(())
}

async fn look_up(shared: &Shared, name: Host) -> Lookup {
    let held = || match shared.snapshot.load().dns(&name) {
        snapshot::Lookup::Found(found) => Some(Lookup::Found {
            addresses: found.addresses.clone(),
            ttl: Duration::from_secs(u64::from(found.ttl)),
        }),
        snapshot::Lookup::NotFound => Some(Lookup::NotFound),
        snapshot::Lookup::Unknown => None,
    };
    if let Some(answer) = held() {
        return answer;
    }
    let root = Root::Name(name.clone());
    match shared.demand.wait(&root, PATIENCE, || held().is_some()).await {
        Ok(()) => held().unwrap_or(Lookup::Unavailable),
        Err(_) => Lookup::Unavailable,
    }
}
