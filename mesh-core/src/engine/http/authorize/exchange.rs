//! One request of the proxy's own to an authorizer, through its cluster: pool, limits, TLS and outlier detection included.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::Check;
use crate::engine::body::{Body, Frame};
use crate::engine::codec::{SendError, Sent};
use crate::engine::pool::{self, Route};
use crate::message::{Headers, RequestHead, ResponseHead, Version};
use crate::snapshot::{Cluster, Endpoint, Outcome, Pick};

/// A longer answer is an error: nobody needs more to say no.
const LONGEST: usize = 256 << 10;

/// An authorizer's answer.
pub(super) struct Said {
    pub(super) head: ResponseHead,
    pub(super) body: Bytes,
    pub(super) trailers: Headers,
}

impl Check<'_> {
    pub(super) async fn exchange(&self, head: &RequestHead, body: Bytes) -> Result<Said, Box<str>> {
        let name = self.authorizer.model.cluster.as_deref().unwrap_or_default();
        let Some(cluster) = self.snapshot.cluster(name) else {
            return Err(format!("cluster {name} is not defined").into());
        };
        let _permit = cluster.admit().map_err(|failure| text(&failure))?;
        let pick = |dice: &mut _| cluster.pick(Pick::first(Instant::now(), dice, None));
        let Some(endpoint) = self.worker.dice(pick) else { return Err("no healthy endpoint".into()) };
        let _active = endpoint.begin();
        let said = self.converse(cluster, &endpoint, head, body).await;
        let outcome = match &said {
            Ok(said) => Outcome::Status(said.head.status),
            Err(_) => Outcome::ConnectFailed,
        };
        cluster.report(&endpoint, outcome, Instant::now());
        said
    }

    async fn converse(
        &self,
        cluster: &Arc<Cluster>,
        endpoint: &Arc<Endpoint>,
        head: &RequestHead,
        body: Bytes,
    ) -> Result<Said, Box<str>> {
        let route = Route::Endpoint(cluster, endpoint);
        let mut fresh = false;
        loop {
            let lease = Box::pin(pool::connection(self.worker, route, head.version, fresh)).await;
            let mut lease = lease.map_err(|error| error.cause().unwrap_or_else(|| text(&error.failure())))?;
            match lease.send(head, Body::full(body.clone()), |_, _| {}).await {
                Ok((head, body)) => return read(head, body).await,
                // An idle connection that has been closed meanwhile: nothing was sent.
                Err(SendError::Closed { sent: Sent::Nothing, .. }) if lease.used_before && !fresh => {
                    fresh = true
                }
                Err(error) => return Err(text(&error)),
            }
        }
    }

    /// What is spoken to an authorizer over HTTP.
    pub(super) fn http_version(&self) -> Version {
        let name = self.authorizer.model.cluster.as_deref().unwrap_or_default();
        let protocol = self.snapshot.cluster(name).map(|cluster| cluster.model.protocol);
        match protocol {
            Some(crate::model::Protocol::Http2 | crate::model::Protocol::Grpc) => Version::Http2,
            _ => Version::Http11,
        }
    }
}

async fn read(head: ResponseHead, mut body: Body) -> Result<Said, Box<str>> {
    let (mut bytes, mut trailers) = (BytesMut::new(), Headers::default());
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| text(&error))? {
            Frame::Data(data) if bytes.len() + data.len() > LONGEST => {
                return Err("the answer is too long".into());
            }
            Frame::Data(data) => bytes.extend_from_slice(&data),
            Frame::Trailers(fields) => trailers = fields,
        }
    }
    Ok(Said { head, body: bytes.freeze(), trailers })
}

fn text(error: &dyn std::fmt::Display) -> Box<str> {
    error.to_string().into()
}
