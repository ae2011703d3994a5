//! The egress gateway: the mesh's way out, the same engine as the sidecar with listeners of its own.

use clap::Parser;
use mesh_core::engine::Settings;
use mesh_core::model::Role;
use mesh_core::proxy::{self, Flags};

/// The egress gateway of the mesh
#[derive(Debug, Parser)]
#[command(name = "mesh-egress", version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
    /// Listening sockets opened by the parent process
    #[arg(long, env = "MESH_LISTEN_FDS", default_value = "", value_name = "PORT=FD,…")]
    listen_fds: String,
    /// Serve clients in the clear too; they are unknown to policies, and anybody can be one
    #[arg(long, env = "MESH_ALLOW_PLAINTEXT")]
    allow_plaintext: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let inherited = proxy::inherited_listeners(&arguments.listen_fds)?;
    let settings = Settings {
        workers: arguments.flags.workers(),
        plaintext: arguments.allow_plaintext,
        ..Settings::gateway(inherited)
    };
    proxy::run(Role::Egress, &arguments.flags, settings, |_, _| std::future::pending())
}
