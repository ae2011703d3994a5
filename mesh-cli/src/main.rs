//! The `mesh` command: run, change, inspect and explain a mesh.

mod cli;
mod cmd;
mod local;
mod output;
mod sys;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Command};

fn main() -> ExitCode {
    // Our own processes are started through /proc/self/exe, which would be their name otherwise.
    let _ = rustix::thread::set_name(c"mesh");
    let cli = Cli::parse();
    let output = output::Output::new(cli.output);
    if matches!(
        cli.command,
        Command::Logs(_)
            | Command::Status(_)
            | Command::Config(_)
            | Command::Lint(_)
            | Command::Explain(_)
            | Command::Test(_)
            | Command::Inject(_)
            | Command::Install(_)
            | Command::EgressPolicy(_)
            | Command::Check(_)
            | Command::Migrate(_)
            | Command::Completions(_)
    ) {
        sys::end_quietly_on_broken_pipe();
    }
    match run(cli.command, &output) {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::from(cmd::exit_code(&error))
        }
    }
}

fn run(command: Command, output: &output::Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(flags) => cmd::up::run(flags, output),
        Command::Down(flags) => cmd::down::run(&flags, output),
        Command::Apply(flags) => cmd::apply::run(&flags, output),
        Command::Delete(flags) => cmd::delete::run(&flags, output),
        Command::Exec(flags) => cmd::exec::run(flags),
        Command::Logs(flags) => cmd::logs::run(flags, output),
        Command::Status(flags) => cmd::status::run(&flags, output),
        Command::Config(flags) => cmd::config::run(flags, output),
        Command::Lint(flags) => cmd::lint::run(&flags, output),
        Command::Explain(flags) => cmd::explain::run(&flags, output),
        Command::Test(flags) => cmd::test::run(&flags, output),
        Command::Inject(flags) => cmd::inject::run(&flags, output),
        Command::Install(flags) => cmd::install::run(&flags, output),
        Command::EgressPolicy(flags) => cmd::egress_policy::run(&flags, output),
        Command::Uninstall(cluster) => cmd::uninstall::run(&cluster, output),
        Command::Check(flags) => cmd::check::run(&flags, output),
        Command::Migrate(cli::From::Istio(flags)) => cmd::migrate::run(&flags, output),
        Command::Completions(flags) => cmd::completions::run(&flags),
        Command::Supervise => local::enter::run().map(exit_with),
        Command::Supervisor => local::supervisor::run().map(|()| ExitCode::SUCCESS),
        Command::Pod => local::pod::run().map(|()| ExitCode::SUCCESS),
        Command::Container { descriptor } => match local::container::run(descriptor)? {},
    }
}

fn exit_with(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(3))
}
