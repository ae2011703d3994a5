//! `mesh status`: pods, services, and what each proxy has acknowledged.

use std::process::ExitCode;

use serde_json::Value;
use time::OffsetDateTime;

use super::connector::Connector;
use crate::cli::Status as Flags;
use crate::local::protocol::{Phase, PodStatus, Status};
use crate::local::supervisor::run_local;
use crate::output::Output;

/// Runs the command; exit code 1 if something is not ready.
pub(crate) fn run(flags: &Flags, output: &Output) -> anyhow::Result<ExitCode> {
    run_local(async {
        let mesh = Connector::open(&flags.place).await?;
        let status = mesh.status(output).await?;
        show(&status, mesh.control_log(), output)
    })
}

fn show(status: &Status, control_log: &str, output: &Output) -> anyhow::Result<ExitCode> {
    if output.is_json() {
        output.json(status)?;
    } else {
        output.table(
            &["NAMESPACE", "POD", "READY", "RESTARTS", "ADDRESS", "SIDECAR", "STATE"],
            status.pods.iter().map(pod_row).collect(),
        );
        output.line("");
        services(status, output);
        control(status, control_log, output);
    }
    Ok(judge(status))
}

/// The exit code that `mesh status` would have.
pub(super) fn exit_code(name: &str, output: &Output) -> anyhow::Result<ExitCode> {
    run_local(async {
        let status = Connector::Local(name.to_owned()).status(output).await?;
        Ok(judge(&status))
    })
}

fn judge(status: &Status) -> ExitCode {
    let well = |pod: &PodStatus| pod.ready || pod.phase == Phase::Succeeded;
    if !status.control.is_null() && status.pods.iter().all(well) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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

/// What the control plane says: each proxy's state of synchronisation, then what is wrong with objects.
fn control(status: &Status, log: &str, output: &Output) {
    if status.control.is_null() {
        output.line(format!("control plane: does not answer; `{log}` may say why"));
        return;
    }
    let items = |name: &str| status.control.get(name).and_then(Value::as_array).into_iter().flatten();
    output.line("");
    output.table(&["PROXY", "ROLE", "SYNC", "ROOTS", "REFUSED"], items("proxies").map(proxy_row).collect());
    for silent in items("replicas").filter(|replica| replica.get("error").is_some()) {
        let (pod, error) = (text(silent, "pod"), text(silent, "error"));
        output.line(format!("control plane {pod}: does not answer, its proxies are missing above: {error}"));
    }
    if let Some(authority) = status.control.get("authority") {
        output.line("");
        output.line(authority_line(authority));
    }
    let problems: Vec<String> = items("problems").map(problem_line).collect();
    if !problems.is_empty() {
        output.line("");
        output.heading("problems");
        problems.iter().for_each(|problem| output.line(problem));
    }
}

/// Who signs and until when, where a replacement stands, and why what was supplied is not used.
fn authority_line(authority: &Value) -> String {
    let expires = authority.get("expires").and_then(Value::as_i64);
    let expires = expires.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let until = expires.map_or_else(String::new, |at| format!(", is good until {}", at.date()));
    let mut line = format!("authority: {} signs{until}", text(authority, "signer"));
    line += match text(authority, "phase").as_str() {
        "introducing" => "; another is being introduced, and signs when all proxies trust it",
        "retiring" => "; the one before it is trusted until what it has signed has run out",
        _ => "",
    };
    let refused = text(authority, "refused");
    if !refused.is_empty() {
        line += &format!("; what was supplied is not used: {refused}");
    }
    line
}

fn proxy_row(proxy: &Value) -> Vec<String> {
    let refused = proxy.get("refused").and_then(Value::as_array).map_or(0, Vec::len);
    let sync = match proxy.get("in_sync").and_then(Value::as_bool) {
        Some(true) => "yes",
        Some(false) => "no",
        None => "?",
    };
    vec![text(proxy, "name"), text(proxy, "role"), sync.to_owned(), text(proxy, "roots"), refused.to_string()]
}

/// `severity: kind namespace/name: field: message (fix: …)`, without what is not known.
fn problem_line(problem: &Value) -> String {
    let object = problem.get("object").filter(|object| object.is_object()).map(|object| {
        format!("{} {}/{}", text(object, "kind"), text(object, "namespace"), text(object, "name"))
    });
    let parts = [
        Some(text(problem, "severity")),
        object,
        Some(text(problem, "field")),
        Some(text(problem, "message")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    let fix = text(problem, "fix");
    if fix.is_empty() { parts.join(": ") } else { format!("{} (fix: {fix})", parts.join(": ")) }
}

fn text(value: &Value, field: &str) -> String {
    match value.get(field) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_tells_who_signs_and_what_becomes_of_another() {
        let mut authority =
            json!({"signer": "ab12", "expires": 1_800_000_000, "phase": "settled", "refused": null});
        assert_eq!(authority_line(&authority), "authority: ab12 signs, is good until 2027-01-15");
        authority["phase"] = "introducing".into();
        assert!(
            authority_line(&authority)
                .ends_with("2027-01-15; another is being introduced, and signs when all proxies trust it")
        );
        authority["refused"] = "tls.key is of another certificate".into();
        assert!(
            authority_line(&authority)
                .ends_with("what was supplied is not used: tls.key is of another certificate")
        );
    }
}
