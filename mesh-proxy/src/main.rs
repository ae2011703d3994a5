//! The sidecar: captures a pod's traffic and carries it through the mesh.

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
