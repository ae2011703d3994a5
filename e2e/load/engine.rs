//! Our engine within this program: what a gateway or a sidecar does with a request, without its control plane.
//!
//! It makes the short form of the benchmark need one program only, and a chain of two sidecars no capture. The engine is
//! the same code as in production, with one worker, all standard metrics and no access log; its configuration is fixed
//! and compiled once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwap;
use clap::ValueEnum;
use mesh_core::engine::{Capture, Demand, Engine, Entrance, Handles, Settings};
use mesh_core::memory;
use mesh_core::model::Resource;
use mesh_core::snapshot::{Config, Snapshot, compile};
use mesh_core::telemetry::Sinks;
use mesh_core::tls::MeshTls;
use tokio::signal::unix::{SignalKind, signal};

/// The address that `engine/outbound.json` leads to the other sidecar.
const SERVICE: ([u8; 4], u16) = ([10, 96, 0, 7], 80);

/// How an engine is started.
#[derive(clap::Args)]
pub(crate) struct Start {
    #[arg(long, value_enum)]
    place: Place,
    #[arg(long)]
    listen: SocketAddr,
    /// Where everything goes: a backend, or the other sidecar
    #[arg(long)]
    backend: SocketAddr,
    /// Where a gateway takes gRPC
    #[arg(long, required_if_eq("place", "gateway"))]
    grpc_port: Option<u16>,
    /// Where a gateway passes bytes on as they are
    #[arg(long, required_if_eq("place", "gateway"))]
    tcp_port: Option<u16>,
    /// The folder with the sidecars' certificates
    #[arg(long)]
    identities: Option<PathBuf>,
}

/// Where in a mesh.
#[derive(Clone, Copy, ValueEnum)]
enum Place {
    /// An ingress gateway.
    Gateway,
    /// The sidecar of who calls.
    Outbound,
    /// The sidecar of who is called, which takes mesh TLS only.
    Inbound,
}

/// Forwards until it is told to end.
pub(crate) async fn serve(start: &Start) -> anyhow::Result<()> {
    // Nobody answers questions: everything that can be asked for is known.
    let (demand, _questions) = Demand::channel();
    let snapshot = Arc::new(ArcSwap::from_pointee(start.snapshot()?));
    let handles = Handles { snapshot, demand, tls: start.tls()?, sinks: Sinks::default() };
    let engine = Engine::start(start.settings(), handles)?;
    let mut end = signal(SignalKind::terminate())?;
    // As the programs do that serve traffic.
    tokio::select! {
        _ = end.recv() => {}
        never = memory::give_back() => match never {},
    }
    drop(engine);
    Ok(())
}

impl Start {
    fn settings(&self) -> Settings {
        let entrance = |dialled| Some(Entrance { address: self.listen, capture: Capture::Fixed(dialled) });
        let none = Settings { mark: None, ..Settings::default() };
        match self.place {
            Place::Gateway => Settings { gateway: Some(self.listen.ip()), ..none },
            Place::Outbound => Settings { outbound: entrance(SERVICE.into()), ..none },
            Place::Inbound => Settings { inbound: entrance(self.backend), ..none },
        }
    }

    /// What a control plane would send.
    fn snapshot(&self) -> anyhow::Result<Snapshot> {
        let text = match self.place {
            Place::Gateway => include_str!("engine/gateway.json"),
            Place::Outbound => include_str!("engine/outbound.json"),
            Place::Inbound => include_str!("engine/inbound.json"),
        };
        let text = text
            .replace("{grpc_port}", &self.grpc_port.unwrap_or_default().to_string())
            .replace("{tcp_port}", &self.tcp_port.unwrap_or_default().to_string())
            .replace("{listen_port}", &self.listen.port().to_string())
            .replace("{backend_port}", &self.backend.port().to_string())
            .replace("{backend}", &self.backend.to_string());
        let config: Config = serde_json::from_str::<Vec<Resource>>(&text)?.into_iter().collect();
        let (snapshot, problems) = compile(None, &config);
        ensure!(problems.is_empty(), "the configuration has problems: {problems:?}");
        Ok(snapshot)
    }

    fn tls(&self) -> anyhow::Result<Arc<MeshTls>> {
        let (Some(folder), tls) = (&self.identities, Arc::<MeshTls>::default()) else {
            return Ok(Arc::default());
        };
        let name = if matches!(self.place, Place::Outbound) { "caller" } else { "called" };
        let (chain, key) = (read(folder, &format!("{name}.pem"))?, read(folder, &format!("{name}-key.pem"))?);
        tls.install(&chain, &key, &read(folder, "root.pem")?, &[])?;
        Ok(tls)
    }
}

fn read(folder: &Path, name: &str) -> anyhow::Result<String> {
    let file = folder.join(name);
    std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}
