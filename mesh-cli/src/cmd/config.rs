//! `mesh config`: the configuration a proxy holds, from its own admin port.

use std::process::ExitCode;

use super::{Exchange, Failure, unexpected};
use crate::cli::Config;
use crate::local::protocol::{Reply, Request, Target};
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command. The proxy answers in JSON, whatever the output format is.
pub(crate) fn run(flags: Config, output: &Output) -> anyhow::Result<ExitCode> {
    let target = target(flags.proxy, flags.namespace);
    let request = Request::ProxyAdmin { target, path: "/config".to_owned() };
    run_local(async {
        let mut exchange = Exchange::begin(&flags.mesh.name, &request, &[]).await?;
        match exchange.finish(output).await? {
            Reply::Body { status: 200, body } => {
                output.line(body.trim_end());
                Ok(ExitCode::SUCCESS)
            }
            Reply::Body { status, body } => {
                Err(Failure::Finding(format!("the proxy answered {status}: {}", body.trim())).into())
            }
            reply => unexpected(&reply),
        }
    })
}

/// `NAME.NAMESPACE` as istioctl has it, or a name and `--namespace`.
fn target(proxy: String, namespace: Option<String>) -> Target {
    let (workload, namespace) = match (namespace, proxy.rsplit_once('.')) {
        (Some(namespace), _) => (proxy, namespace),
        (None, Some((name, namespace))) => (name.to_owned(), namespace.to_owned()),
        (None, None) => (proxy, "default".to_owned()),
    };
    Target { namespace, workload, container: None }
}
