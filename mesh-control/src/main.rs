//! The control plane.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use clap::Parser;
use mesh_control::ca::Authority;
use mesh_control::serve::Plane;
use mesh_control::source::{self, Change};
use mesh_control::tokens::Verifier;
use mesh_control::view::View;
use mesh_control::world::World;
use mesh_control::{admin, dns};
use mesh_core::daemon::{logging, signals};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;

/// The control plane of the mesh: reads objects, signs certificates and supplies proxies
#[derive(Debug, Parser)]
#[command(name = "mesh-control", version)]
struct Arguments {
    /// Folder or file with objects; watched
    #[arg(long, required = true, value_name = "PATH")]
    source: Vec<PathBuf>,
    /// Where proxies connect
    #[arg(long, default_value = "127.0.0.1:15012")]
    listen: SocketAddr,
    /// Status, objects and metrics
    #[arg(long, default_value = "127.0.0.1:15014")]
    admin: SocketAddr,
    /// DNS for pods without a sidecar; none unless given
    #[arg(long)]
    dns: Option<SocketAddr>,
    /// JWK set with the keys that sign service-account tokens
    #[arg(long, value_name = "FILE")]
    token_keys: PathBuf,
    /// Folder for the certificate authority's key and certificate
    #[arg(long, value_name = "FOLDER")]
    state: PathBuf,
    /// Where to write the authority's root, for proxies to verify us by
    #[arg(long, value_name = "FILE")]
    root_out: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    logging::init();
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let stop = signals::stop()?;
    let authority = Authority::open(&arguments.state)?;
    let plane = Plane::new(authority, Verifier::new(&arguments.token_keys));
    let ready = Arc::new(AtomicBool::new(false));
    let changes = source::watch(arguments.source.clone())?;

    let listener = TcpListener::bind(arguments.listen).await.with_context(|| {
        format!("cannot listen on {}; is another control plane running?", arguments.listen)
    })?;
    let pages = TcpListener::bind(arguments.admin)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.admin))?;
    if let Some(address) = arguments.dns {
        let socket = UdpSocket::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(dns::serve(socket, Arc::clone(&plane), stop.clone()));
    }
    tokio::spawn(admin::pages(&plane, &ready).serve(pages, stop.clone()));
    if let Some(path) = &arguments.root_out {
        write(path, plane.root())?;
    }
    tokio::select! {
        served = plane.serve(listener, stop.clone()) => served,
        () = follow(changes, &plane, &ready) => anyhow::bail!("the source of objects ended"),
        () = stop.cancelled() => Ok(()),
    }
}

/// Every change makes a new world and a new view of it.
async fn follow(mut changes: mpsc::Receiver<Change>, plane: &Plane, ready: &AtomicBool) {
    let mut world = World::default();
    let mut generation = 0;
    while let Some(change) = changes.recv().await {
        let touched = world.apply(change);
        generation += 1;
        tracing::info!(generation, objects = touched.keys.len(), "objects changed");
        plane.publish(View::new(world.clone(), generation));
        ready.store(true, Ordering::Relaxed);
    }
}

/// Beside and renamed, so that a reader never sees half of it.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
