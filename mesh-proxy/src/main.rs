//! The sidecar: captures a pod's traffic and carries it through the mesh.
//!
//! `redirect` programs the capture rules of the pod's network namespace and exits; `run` is the proxy itself. They are
//! apart because only the first needs to administer the network. `wait` holds an application back until the proxy is ready.

mod dns;
mod names;
mod probes;
mod redirect;
mod sys;

use std::time::Duration;

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
        #[command(flatten)]
        probes: probes::Flags,
    },
    /// Return when the proxy of this pod is ready
    Wait {
        /// Seconds after which to give up
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        timeout: u64,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Redirect(flags) => flags.run(),
        Command::Wait { timeout } => probes::wait_until_ready(Duration::from_secs(timeout)),
        Command::Run { flags, names, probes } => {
            let address = flags.address();
            let settings = Settings { workers: flags.workers(), ..Settings::sidecar() };
            proxy::run(Role::Sidecar, &flags, settings, |shared, stop| async move {
                let probed = probes::serve(probes, address, stop.clone());
                tokio::try_join!(names::serve(names, shared, stop), probed).map(|_| ())
            })
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
