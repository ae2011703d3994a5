//! `mesh-echo`: the application that plays every sample, and the client that tests call it with.
//!
//! Without a subcommand it serves: it says who it is, what it saw of the request, who called it, and what the
//! services it calls in turn answered. It misbehaves on request (see `behaviour`). The subcommands are small
//! clients, so that a scenario needs no other program inside a pod.
//!
//! It contains nothing of the mesh: whatever identity, encryption or routing shows up was added from outside.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod authorizer;
mod behaviour;
mod caller;
mod client;
mod grpc;
mod names;
mod otlp;
mod report;
mod serve;
mod settings;
mod tls;
mod units;

/// An application for trying a mesh out: a server that says what it saw, and clients to call it.
#[derive(Parser)]
#[command(name = "mesh-echo", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: settings::ServeSettings,
}

#[derive(Subcommand)]
enum Command {
    /// Send HTTP requests and print or count the answers.
    Get(client::get::Arguments),
    /// Send HTTP requests at a fixed rate and report latencies and failures as JSON.
    Load(client::load::Arguments),
    /// Send a line over TCP and print what comes back.
    Tcp(client::tcp::Arguments),
    /// Call the gRPC echo service and print replies and status as JSON.
    Grpc(client::grpc::Arguments),
    /// Send messages over a WebSocket and print each reply.
    Ws(client::websocket::Arguments),
    /// Look for a text in what passes on the network of this pod.
    Sniff(client::sniff::Arguments),
    /// Answer DNS queries: some names like others, all else as the system's resolver does.
    Names(names::Arguments),
    /// Receive spans by OTLP over gRPC and show them at `/spans`.
    Otlp(otlp::Arguments),
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-echo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    // One thread is plenty for a sample, and a pod should be small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command {
        None => serve::run(arguments.serve).await,
        Some(Command::Get(get)) => client::get::run(get).await,
        Some(Command::Load(load)) => client::load::run(load).await,
        Some(Command::Tcp(tcp)) => client::tcp::run(tcp).await,
        Some(Command::Grpc(grpc)) => client::grpc::run(grpc).await,
        Some(Command::Ws(websocket)) => client::websocket::run(websocket).await,
        Some(Command::Sniff(sniff)) => client::sniff::run(&sniff),
        Some(Command::Names(names)) => names::run(names).await,
        Some(Command::Otlp(otlp)) => otlp::run(otlp).await,
    }
}
