//! Copies of requests for mirrors: sent beside the request, never waited for, their answers thrown away.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::timeout;

use super::attempt::mirror_version;
use crate::decide::Plan;
use crate::engine::body::Body;
use crate::engine::http::tee::tee;
use crate::engine::pool::{self, Route};
use crate::engine::worker::Worker;
use crate::message::RequestHead;
use crate::snapshot::{Cluster, Pick};
use crate::telemetry::TraceContext;

/// A mirror that takes longer is left alone (Envoy's default route timeout).
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends the copies that the plan asks for; gives back the body, which is copied to them as it is read.
pub(super) fn send(
    worker: &Rc<Worker>,
    plan: &Plan,
    head: &RequestHead,
    trace: &TraceContext,
    body: Body,
) -> Body {
    if plan.mirrors.is_empty() || head.upgrade.is_some() {
        return body;
    }
    let mut head = head.clone();
    trace.unsampled().inject(&mut head.headers);
    let (body, copies) = tee(body, plan.mirrors.len());
    for (cluster, copy) in plan.mirrors.iter().zip(copies) {
        let (worker, cluster, head) = (Rc::clone(worker), Arc::clone(cluster), head.clone());
        spawn_local(async move {
            if timeout(PATIENCE, send_copy(&worker, &cluster, &head, copy)).await.is_err() {
                tracing::debug!(cluster = %cluster.model.name, "mirror took too long");
            }
        });
    }
    body
}

async fn send_copy(worker: &Rc<Worker>, cluster: &Arc<Cluster>, head: &RequestHead, body: Body) {
    let Ok(_permit) = cluster.admit() else { return };
    let pick = |dice: &mut _| cluster.pick(Pick::first(Instant::now(), dice, None));
    let Some(endpoint) = worker.dice(pick) else { return };
    let _active = endpoint.begin();
    let version = mirror_version(cluster, head);
    let route = Route::Endpoint(cluster, &endpoint);
    let Ok(mut lease) = pool::connection(worker, route, version, false).await else { return };
    if let Ok((_, mut body)) = lease.send(head, body, |_, _| {}).await {
        while let Some(Ok(_)) = body.frame().await {}
    }
}
