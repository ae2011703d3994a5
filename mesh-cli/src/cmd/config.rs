//! `mesh config`: the configuration a proxy holds, from its own admin port.

use std::process::ExitCode;

use super::Failure;
use super::connector::Connector;
use crate::cli::Config;
use crate::local::protocol::Target;
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command. The proxy answers in JSON, whatever the output format is.
pub(crate) fn run(flags: Config, output: &Output) -> anyhow::Result<ExitCode> {
    run_local(async {
        let mesh = Connector::open(&flags.place).await?;
        let target = target(flags.proxy, flags.namespace, &mesh);
        let (status, body) = mesh.proxy_admin(target, "/config", output).await?;
        if status != 200 {
            return Err(Failure::Finding(format!("the proxy answered {status}: {}", body.trim())).into());
        }
        output.line(body.trim_end());
        Ok(ExitCode::SUCCESS)
    })
}

/// `NAME.NAMESPACE` as istioctl has it, or a name and `--namespace`.
fn target(proxy: String, namespace: Option<String>, mesh: &Connector) -> Target {
    let (workload, namespace) = match (namespace, proxy.rsplit_once('.')) {
        (None, Some((name, namespace))) => (name.to_owned(), namespace.to_owned()),
        (namespace, _) => (proxy, mesh.namespace(namespace)),
    };
    Target { namespace, workload, container: None }
}
