//! The queries that Istio's Grafana dashboards and Kiali's graph make, asked of a real Prometheus.
//!
//! They are written from what those dashboards show and from the labels that Istio documents; a query counts only if it
//! returns a series with a number other than zero. What concerns containers (CPU, memory) is not the mesh's to report.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::mesh::Mesh;
use crate::prometheus::series;
use crate::scenario::Given;

/// How long a client in a pod may take.
const CLIENT_DEADLINE: Duration = Duration::from_secs(20);

/// Dashboards "Mesh", "Service" and "Workload", with their variables filled in.
const DASHBOARDS: &[&str] = &[
    // Mesh: the figures at the top.
    r#"round(sum(irate(istio_requests_total{reporter="source"}[1m])), 0.001)"#,
    r#"sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m]))"#,
    r#"sum(irate(istio_requests_total{reporter=~"source|waypoint",response_code=~"4.*"}[1m]))"#,
    r#"sum(irate(istio_requests_total{reporter=~"source|waypoint",response_code=~"5.*"}[1m]))"#,
    // Mesh: the tables of workloads.
    r#"label_join(sum(irate(istio_requests_total{reporter="source"}[1m])) by (destination_workload, destination_workload_namespace, destination_service), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"label_join(histogram_quantile(0.50, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[1m])) by (le, destination_workload, destination_workload_namespace)) / 1000, "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"label_join(histogram_quantile(0.90, sum(rate(istio_request_duration_milliseconds_bucket[1m])) by (le, destination_workload, destination_workload_namespace)) / 1000, "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"label_join(histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket[1m])) by (le, destination_workload, destination_workload_namespace)) / 1000, "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"label_join((sum(rate(istio_requests_total{response_code!~"5.*"}[1m])) by (destination_workload, destination_workload_namespace) / sum(rate(istio_requests_total[1m])) by (destination_workload, destination_workload_namespace)), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"label_join(sum(rate(istio_tcp_received_bytes_total{reporter="source"}[1m])) by (destination_workload, destination_workload_namespace, destination_service), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    r#"label_join(sum(rate(istio_tcp_sent_bytes_total{reporter="source"}[1m])) by (destination_workload, destination_workload_namespace, destination_service), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")"#,
    // Service: its clients' view and its own.
    r#"round(sum(irate(istio_requests_total{reporter=~"source|waypoint",destination_service=~"backend.default.svc.cluster.local"}[5m])), 0.001)"#,
    r#"sum(irate(istio_requests_total{reporter=~"destination|waypoint",destination_service=~"backend.default.svc.cluster.local",response_code!~"5.*"}[5m])) / sum(irate(istio_requests_total{reporter=~"destination|waypoint",destination_service=~"backend.default.svc.cluster.local"}[5m]))"#,
    r#"histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint",destination_service=~"backend.default.svc.cluster.local"}[1m])) by (le))"#,
    r#"sum(rate(istio_tcp_received_bytes_total{reporter=~"source|waypoint",destination_service=~"backend.default.svc.cluster.local"}[1m]))"#,
    r#"round(sum(irate(istio_requests_total{connection_security_policy="mutual_tls",destination_service=~"backend.default.svc.cluster.local",reporter=~"destination|waypoint",source_workload=~"frontend",source_workload_namespace=~"default"}[5m])) by (source_workload, source_workload_namespace, response_code), 0.001)"#,
    r#"histogram_quantile(0.50, sum(irate(istio_request_bytes_bucket{reporter=~"source|waypoint",connection_security_policy!="mutual_tls",destination_service=~"backend.default.svc.cluster.local"}[1m])) by (source_workload, source_workload_namespace, le))"#,
    r#"histogram_quantile(0.95, sum(irate(istio_response_bytes_bucket{reporter=~"destination|waypoint",connection_security_policy="mutual_tls",destination_service=~"backend.default.svc.cluster.local"}[1m])) by (source_workload, source_workload_namespace, le))"#,
    r#"round(sum(rate(istio_tcp_received_bytes_total{reporter=~"destination|waypoint",connection_security_policy="mutual_tls",destination_service=~"backend.default.svc.cluster.local"}[1m])) by (source_workload, source_workload_namespace), 0.001)"#,
    r#"sum(irate(istio_requests_total{reporter=~"destination|waypoint",destination_service=~"backend.default.svc.cluster.local"}[5m])) by (destination_workload, destination_workload_namespace, response_code)"#,
    // Workload: what comes in and what goes out.
    r#"round(sum(irate(istio_requests_total{reporter=~"destination|waypoint",destination_workload_namespace=~"default",destination_workload=~"backend"}[5m])), 0.001)"#,
    r#"histogram_quantile(0.90, sum(irate(istio_request_duration_milliseconds_bucket{reporter=~"destination|waypoint",connection_security_policy="mutual_tls",destination_workload=~"backend",destination_workload_namespace=~"default"}[1m])) by (source_workload, source_workload_namespace, le)) / 1000"#,
    r#"round(sum(irate(istio_requests_total{connection_security_policy!="mutual_tls",source_workload_namespace=~"default",source_workload=~"frontend",reporter="source"}[5m])) by (destination_service, response_code), 0.001)"#,
    r#"sum(irate(istio_requests_total{reporter="source",source_workload=~"frontend",source_workload_namespace=~"default",response_code!~"5.*"}[5m])) by (destination_service) / sum(irate(istio_requests_total{reporter="source",source_workload=~"frontend",source_workload_namespace=~"default"}[5m])) by (destination_service)"#,
    r#"histogram_quantile(0.50, sum(irate(istio_response_bytes_bucket{reporter="source",source_workload=~"frontend",source_workload_namespace=~"default"}[1m])) by (destination_service, le))"#,
    r#"round(sum(rate(istio_tcp_sent_bytes_total{reporter="source",source_workload_namespace=~"default",source_workload=~"frontend"}[1m])) by (destination_service), 0.001)"#,
    // The variables of the dashboards themselves.
    r#"sum(istio_requests_total{reporter="source"}) by (destination_service)"#,
    r#"sum(istio_requests_total) by (destination_workload_namespace) or sum(istio_tcp_sent_bytes_total) by (destination_workload_namespace)"#,
    // Proxies: what the dashboard "Performance" says of traffic.
    r#"sum(irate(istio_requests_total{source_workload="frontend"}[1m]))"#,
    r#"sum(irate(istio_response_bytes_sum{destination_workload="backend",reporter="destination"}[1m]))"#,
];

/// The labels by which Kiali makes nodes and edges of series.
const NODES: &str = "source_cluster,source_workload_namespace,source_workload,source_canonical_service,\
source_canonical_revision,destination_cluster,destination_service_namespace,destination_service,\
destination_service_name,destination_workload_namespace,destination_workload,destination_canonical_service,\
destination_canonical_revision";

pub(crate) fn return_series(given: &Given<'_>) -> anyhow::Result<()> {
    all_return_series(given.mesh, DASHBOARDS.iter().map(|query| (*query).to_owned()).collect())
}

pub(crate) fn graph_is_drawn(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    let requests = "request_protocol,response_code,grpc_response_status,response_flags";
    let mut queries = Vec::new();
    for reporter in ["source", "destination"] {
        for namespace in
            [r#"destination_service_namespace="default""#, r#"source_workload_namespace="default""#]
        {
            let labels = format!(r#"reporter="{reporter}",{namespace}"#);
            queries.extend([
                format!("sum(rate(istio_requests_total{{{labels}}}[60s])) by ({NODES},{requests}) > 0"),
                format!("sum(rate(istio_tcp_sent_bytes_total{{{labels}}}[60s])) by ({NODES},response_flags) > 0"),
                format!("sum(rate(istio_tcp_received_bytes_total{{{labels}}}[60s])) by ({NODES},response_flags) > 0"),
                format!("histogram_quantile(0.95, sum(rate(istio_request_duration_milliseconds_bucket{{{labels}}}[60s])) by (le,{NODES},request_protocol)) > 0"),
                format!("sum(rate(istio_response_bytes_sum{{{labels}}}[60s])) by ({NODES},request_protocol) > 0"),
                format!("sum(rate(istio_request_bytes_sum{{{labels}}}[60s])) by ({NODES},request_protocol) > 0"),
            ]);
        }
    }
    all_return_series(mesh, queries)?;

    // What the graph shows of an edge: its ends, the padlock, errors, gRPC.
    let edge = r#"reporter="destination",source_canonical_service="frontend",destination_canonical_service="backend",source_cluster!="unknown",destination_cluster!="unknown""#;
    let principals = r#"source_principal=~"spiffe://.+/sa/frontend",destination_principal=~"spiffe://.+""#;
    all_return_series(
        mesh,
        vec![
            format!(
                r#"sum(rate(istio_requests_total{{{edge},connection_security_policy="mutual_tls",{principals}}}[60s])) by ({NODES},source_principal,destination_principal,connection_security_policy) > 0"#
            ),
            format!(
                r#"sum(rate(istio_tcp_sent_bytes_total{{{edge},connection_security_policy="mutual_tls",{principals}}}[60s])) by ({NODES},connection_security_policy) > 0"#
            ),
            format!(
                r#"sum(rate(istio_requests_total{{{edge},response_code="503",response_flags="-"}}[60s])) by (response_code,response_flags) > 0"#
            ),
            format!(
                r#"sum(rate(istio_requests_total{{{edge},request_protocol="grpc",grpc_response_status="5"}}[60s])) by (grpc_response_status) > 0"#
            ),
            format!(r#"sum(rate(istio_tcp_connections_opened_total{{{edge}}}[60s])) by ({NODES}) > 0"#),
            format!(r#"sum(rate(istio_tcp_connections_closed_total{{{edge}}}[60s])) by ({NODES}) > 0"#),
        ],
    )
}

/// A label that Telemetry adds is there, one that it removes is not, and a metric that it disables is gone.
pub(crate) fn own_labels(given: &Given<'_>) -> anyhow::Result<()> {
    let mesh = given.mesh;
    mesh.eventually(|| {
        mesh.get("frontend", &["http://backend:8080/by-path?x=1"]).status(200)?;
        let query = r#"istio_requests_total{reporter="source",request_path="/by-path",destination_workload="backend"}"#;
        let found = series(mesh, query)?;
        ensure!(found.len() == 1, "{} series by path", found.len());
        let labels = found[0]["metric"].as_object().cloned().unwrap_or_default();
        ensure!(!labels.contains_key("response_flags"), "the label is still there: {labels:?}");
        let sizes = series(mesh, r#"istio_request_bytes_count{reporter="source",source_workload="frontend"}"#)?;
        ensure!(sizes.is_empty(), "sizes of requests are still reported: {sizes:?}");
        ensure!(!series(mesh, "istio_response_bytes_count")?.is_empty(), "nothing else should have gone");
        Ok(())
    })
}

/// Traffic of every kind that the queries ask about goes on until each has returned a number other than zero.
fn all_return_series(mesh: &Mesh, mut open: Vec<String>) -> anyhow::Result<()> {
    mesh.eventually(|| {
        traffic(mesh)?;
        let answered = answered(mesh, &open)?;
        let mut at = 0..;
        open.retain(|_| !at.next().is_some_and(|at| answered.contains(&at)));
        let (left, some) = (open.len(), &open[..open.len().min(3)]);
        ensure!(left == 0, "{left} queries return no series: {some:#?}");
        Ok(())
    })
}

/// Which of the queries return a number above zero. All are asked at once: each question costs a process in a pod.
fn answered(mesh: &Mesh, queries: &[String]) -> anyhow::Result<HashSet<usize>> {
    let numbered = |(at, query): (usize, &String)| {
        format!(r#"label_replace(count(({query}) > 0), "number", "{at}", "", "")"#)
    };
    let all: Vec<String> = queries.iter().enumerate().map(numbered).collect();
    let number = |series: &Value| series.pointer("/metric/number")?.as_str()?.parse().ok();
    Ok(series(mesh, &all.join(" or "))?.iter().filter_map(number).collect())
}

fn traffic(mesh: &Mesh) -> anyhow::Result<()> {
    let backend = "http://backend:8080/";
    for status in [200, 404, 503] {
        let url = format!("{backend}?status={status}");
        mesh.get("frontend", &[&url, "-X", "POST", "-d", "12345"]).status(status)?;
    }
    for client in [&["grpc", backend, "--status", "5"][..], &["tcp", "backend:9000", "whoami"]] {
        let said = mesh.start_in("frontend", client).finish(CLIENT_DEADLINE)?;
        ensure!(said.code == Some(0), "{client:?}: {said:?}");
    }
    Ok(())
}
