//! The sidecar: captures a pod's traffic and carries it through the mesh.
//!
//! `redirect` programs the capture rules of the pod's network namespace and exits; `run` is the proxy itself. They are
//! apart because only the first needs to administer the network.

mod dns;
mod names;
mod redirect;
mod sys;

use clap::{Parser, Subcommand};
use mesh_core::engine::Settings;
use mesh_core::model::Role;
use mesh_core::proxy::{self, Flags};

/// The sidecar of the mesh
#[derive(Debug, Parser)]
#[command(name = "mesh-proxy", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Program the capture rules of this network namespace and exit
    Redirect(redirect::Flags),
    /// Carry the pod's traffic
    Run {
        #[command(flatten)]
        flags: Flags,
        #[command(flatten)]
        names: names::Flags,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Redirect(flags) => flags.run(),
        Command::Run { flags, names } => {
            let settings = Settings { workers: flags.workers(), ..Settings::sidecar() };
            proxy::run(Role::Sidecar, &flags, settings, |shared, stop| names::serve(names, shared, stop))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
