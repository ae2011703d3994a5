//! The sidecar: captures a pod's traffic and carries it through the mesh.

#[expect(unused_imports, reason = "main joins it to the control plane's lookups")]
#[cfg_attr(not(test), expect(dead_code, reason = "as above"))]
mod dns;
mod redirect;
mod sys;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "mesh-proxy", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Program the capture rules of this network namespace and exit.
    Redirect(redirect::Flags),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Redirect(flags) => flags.run(),
    }
}
