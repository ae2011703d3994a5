//! `mesh-bench`: what a request costs, side by side with what people would pick instead.
//!
//! Every subject is a reverse proxy in front of the same backend, on loopback, with one worker. In each round every
//! subject is driven at the same fixed rate, one after the other, and the order turns with the round, so that a noisy
//! moment of the machine hits none of them alone. The main figure is the processor time of the subject's processes
//! (from the kernel's accounting) per request; it stays put where throughput does not. Latency counts from the
//! scheduled time of a request (no coordinated omission).
//!
//! It does not tune the machine and pins nothing; spread is printed beside every median.

mod backend;
mod case;
mod certificate;
mod connections;
mod control;
mod credentials;
mod engine;
mod features;
mod forwarder;
mod generator;
mod grpc;
mod instructions;
mod link;
mod mesh;
mod pods;
mod process;
mod report;
mod round;
mod short;
mod subject;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Compare the mesh's ingress gateway with other reverse proxies on this machine
#[derive(Parser)]
#[command(name = "mesh-bench")]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    measurement: Measurement,
}

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Measurement {
    /// Rounds; in each, every subject is measured once per case
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of load per subject, case and round
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Cases to run, by name; all when none is given
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    #[command(flatten)]
    chosen: Chosen,
    /// `text` or `json`
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
    /// Also draw the processor time per request as SVG
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Whom to measure.
#[derive(clap::Args)]
pub(crate) struct Chosen {
    /// Subjects to measure, by name; all that are installed when none is given. `mesh+FEATURE` is our gateway with one of
    /// access-log, tracing-1, tracing-100, authorization-100, authorization-1000, jwt, rate-limit, routes-5000, routes-10000
    #[arg(long, value_name = "NAME")]
    subject: Vec<String>,
    /// A TOML file with more subjects, as e2e/load/subjects/subjects.toml has them
    #[arg(long, value_name = "FILE")]
    subjects: Option<PathBuf>,
}

impl Measurement {
    const fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Other measurements, and processes that the benchmark starts from its own executable.
#[derive(Subcommand)]
enum Role {
    /// Start a mesh of many pods on this machine and show what it takes, idle and under load
    Pods(pods::Size),
    /// Count instructions per operation with valgrind and compare them with the committed ones
    Instructions(instructions::Counting),
    /// One operation, so many times
    #[command(hide = true)]
    Operation { name: String, times: u64 },
    /// In two minutes, whether a request costs more than it did, as a ratio to a plain forwarder
    Short(short::Short),
    /// Open many connections, leave them idle, close them, and show what memory they take
    Connections(connections::Many),
    /// Connect many simulated proxies to a control plane, change things, and show what it costs
    Control(control::Size),
    /// The backend that all subjects forward to
    #[command(hide = true)]
    Backend,
    /// A plain forwarder on hyper, the reference
    #[command(hide = true)]
    Forwarder(Way),
    /// Our engine, with a fixed configuration
    #[command(hide = true)]
    Engine(engine::Start),
}

/// From where to where something forwards.
#[derive(clap::Args)]
struct Way {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    backend: SocketAddr,
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mesh-bench: {error:#}");
            ExitCode::from(3)
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    if let Some(Role::Operation { name, times }) = &arguments.role {
        return instructions::run(name, *times);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        match arguments.role {
            Some(Role::Pods(size)) => pods::measure(&size),
            Some(Role::Instructions(counting)) => instructions::measure(&counting).await,
            Some(Role::Connections(many)) => connections::measure(&many).await,
            Some(Role::Control(size)) => control::measure(&size).await,
            Some(Role::Backend) => backend::serve().await,
            Some(Role::Forwarder(Way { listen, backend })) => forwarder::serve(listen, backend).await,
            Some(Role::Engine(start)) => engine::serve(&start).await,
            Some(Role::Short(short)) => short::measure(&short).await,
            _ => round::measure(&arguments.measurement).await,
        }
    })
}
