//! `mesh status`: pods, services, and what each proxy has acknowledged.

use std::process::ExitCode;

use super::{Exchange, unexpected};
use crate::cli::Status as Flags;
use crate::local::protocol::{Phase, PodStatus, Reply, Request, Status};
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command; exit code 1 if something is not ready.
pub(crate) fn run(flags: &Flags, output: &Output) -> anyhow::Result<ExitCode> {
    run_local(async {
        let mut exchange = Exchange::begin(&flags.mesh.name, &Request::Status, &[]).await?;
        match exchange.finish(output).await? {
            Reply::Status(status) => show(&status, output),
            reply => unexpected(&reply),
        }
    })
}

fn show(status: &Status, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(status)?;
    } else {
        output.table(
            &["NAMESPACE", "POD", "READY", "RESTARTS", "ADDRESS", "SIDECAR", "STATE"],
            status.pods.iter().map(pod_row).collect(),
        );
        output.line("");
        services(status, output);
        control(status, output)?;
    }
    let healthy =
        !status.control.is_null() && status.pods.iter().all(|pod| pod.ready || pod.phase == Phase::Succeeded);
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pod_row(pod: &PodStatus) -> Vec<String> {
    let state = if pod.message.is_empty() { format!("{:?}", pod.phase) } else { pod.message.clone() };
    vec![
        pod.namespace.clone(),
        pod.name.clone(),
        if pod.ready { "yes" } else { "no" }.to_owned(),
        pod.restarts.to_string(),
        pod.address.to_string(),
        if pod.sidecar { "yes" } else { "no" }.to_owned(),
        state,
    ]
}

/// Every service and the ingress addresses.
pub(super) fn services(status: &Status, output: &Output) {
    let rows = status.services.iter().map(|service| {
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        vec![format!("{}.{}.svc.cluster.local", service.name, service.namespace), ports.join(", ")]
    });
    output.table(&["SERVICE", "PORTS"], rows.collect());
    output.line("");
    output.line(format!("ingress gateway: {}", status.ingress.join("  ")));
}

fn control(status: &Status, output: &Output) -> anyhow::Result<()> {
    if status.control.is_null() {
        output.line("control plane: does not answer; `mesh logs mesh-control` may say why");
        return Ok(());
    }
    output.line("");
    output.heading("control plane");
    output.line(serde_json::to_string_pretty(&status.control)?);
    Ok(())
}
