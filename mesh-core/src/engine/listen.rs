//! Accept loops: one per listener and worker. They outlive every error that a client or a full table can cause.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::connection;
use super::settings::Capture;
use super::socket;
use super::worker::Worker;
use crate::telemetry::Counter;

/// How long a draining listener waits for what may still be on its way into the queue.
const LAST_CALL: Duration = Duration::from_millis(50);

/// What an accepted connection came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    /// The workload's own traffic.
    Outbound(Capture),
    /// Traffic to the workload.
    Inbound(Capture),
    /// A gateway's port.
    Gateway(u16),
}

/// Accepts until the engine drains.
pub(crate) async fn serve(worker: Rc<Worker>, listener: TcpListener, door: Door) {
    let places = worker.places();
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = accept(&listener) => accepted,
            () = worker.drain().begun() => break,
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => admit(&worker, door, accepted, place),
            Err(_) => refuse(&worker, accepted),
        }
    }
    empty_queue(&worker, &listener, door, &places).await;
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if socket::exhausted(&error) => {
                tracing::warn!(%error, "cannot accept: waiting for connections to end");
                sleep(Duration::from_millis(100)).await;
            }
            // The client was gone before we came to it (accept(2)).
            Err(error) => tracing::debug!(%error, "accept failed"),
        }
    }
}

fn admit(worker: &Rc<Worker>, door: Door, accepted: (TcpStream, SocketAddr), place: OwnedSemaphorePermit) {
    let ((stream, peer), serving_worker) = (accepted, Rc::clone(worker));
    worker.drain().spawn(async move {
        // Made in here: moved in, its room would be there twice.
        connection::serve(serving_worker, door, stream, socket::canonical(peer)).await;
        drop(place);
    });
}

/// There is no room. A client that is told so at once goes elsewhere; one that waits in the queue does not.
fn refuse(worker: &Worker, (stream, peer): (TcpStream, SocketAddr)) {
    tracing::debug!(%peer, "connection refused: the limit is reached");
    worker.count(Counter::ConnectionsRefused);
    drop(stream);
}

async fn empty_queue(worker: &Rc<Worker>, listener: &TcpListener, door: Door, places: &Arc<Semaphore>) {
    while let Ok(accepted) = timeout(LAST_CALL, accept(listener)).await {
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => admit(worker, door, accepted, place),
            Err(_) => return refuse(worker, accepted),
        }
    }
}
