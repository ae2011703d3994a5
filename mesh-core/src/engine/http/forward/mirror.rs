//! Copies of requests for mirrors: sent beside the request, never waited for, their answers thrown away.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::attempt::mirror_version;
use crate::decide::Plan;
use crate::engine::body::Body;
use crate::engine::connection::Downstream;
use crate::engine::http::tee::tee;
use crate::engine::pool::{self, Route};
use crate::engine::worker::Worker;
use crate::message::{RequestHead, Version};
use crate::model::{Mirror, MirrorPath};
use crate::snapshot::{Cluster, Pick};
use crate::telemetry::TraceContext;

/// A mirror that takes longer is left alone (Envoy's default route timeout).
const PATIENCE: Duration = Duration::from_secs(15);

/// Path and query as the client wrote them; kept where there are mirrors.
pub(super) type Written = Option<(Bytes, Option<Bytes>)>;

/// Keeps what a rewrite will change.
pub(super) fn written(plan: &Plan, head: &RequestHead) -> Written {
    (!plan.mirrors.is_empty()).then(|| (head.path.clone(), head.query.clone()))
}

/// Sends the copies that the plan asks for; gives back the body, which is copied to them as it is read.
pub(super) fn send(
    worker: &Rc<Worker>,
    downstream: &Downstream,
    plan: &Plan,
    head: &RequestHead,
    written: &Written,
    trace: &TraceContext,
    body: Body,
) -> Body {
    if plan.mirrors.is_empty() || head.upgrade.is_some() {
        return body;
    }
    let mut head = head.clone();
    trace.unsampled().inject(&mut head.headers);
    let whole = plan.mirrors.iter().filter(|(_, mirror)| !mirror.without_body).count();
    let (body, copies) = tee(body, whole);
    let mut copies = copies.into_iter();
    for (cluster, mirror) in &plan.mirrors {
        let (worker, cluster) = (Rc::clone(worker), Arc::clone(cluster));
        let head = edited(head.clone(), mirror, written);
        let copy = Some(&mut copies).filter(|_| !mirror.without_body).and_then(Iterator::next);
        let copy = copy.unwrap_or_else(Body::empty);
        let version = mirror_version(&cluster, &head, &downstream.through);
        spawn_local(async move {
            if timeout(PATIENCE, send_copy(&worker, &cluster, &head, version, copy)).await.is_err() {
                tracing::debug!(cluster = %cluster.model.name, "mirror took too long");
            }
        });
    }
    body
}

/// The copy's head, where it is to differ from what is forwarded.
fn edited(mut head: RequestHead, mirror: &Mirror, written: &Written) -> RequestHead {
    if let Some(authority) = &mirror.authority {
        head.authority = Bytes::from(authority.clone());
    }
    match (&mirror.path, written) {
        (None, _) | (Some(MirrorPath::Original), None) => {}
        (Some(MirrorPath::Original), Some(written)) => (head.path, head.query) = written.clone(),
        (Some(MirrorPath::Fixed(fixed)), _) => {
            let (path, query) = fixed.split_once('?').map_or((&**fixed, None), |(p, q)| (p, Some(q)));
            head.path = Bytes::from(path.to_owned());
            head.query = query.map(|query| Bytes::from(query.to_owned()));
        }
    }
    if mirror.without_body {
        head.headers.remove("content-length");
    }
    head
}

async fn send_copy(
    worker: &Rc<Worker>,
    cluster: &Arc<Cluster>,
    head: &RequestHead,
    version: Version,
    body: Body,
) {
    let Ok(_permit) = cluster.admit() else { return };
    let pick = |dice: &mut _| cluster.pick(Pick::first(Instant::now(), dice, None));
    let Some(endpoint) = worker.dice(pick) else { return };
    let _active = endpoint.begin();
    let route = Route::Endpoint(cluster, &endpoint);
    let Ok(mut lease) = pool::connection(worker, route, version, false).await else { return };
    if let Ok((_, mut body)) = lease.send(head, body, |_, _| {}).await {
        while let Some(Ok(_)) = body.frame().await {}
    }
}
