//! The listeners of a gateway follow its configuration: opened and closed while it runs, existing connections untouched.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use tokio::net::TcpListener;
use tokio::task::{AbortHandle, spawn_local};

use super::listen::{self, Door};
use super::socket;
use super::worker::Worker;

/// Sockets that one worker has opened for all: the first to need a port opens it for everyone, so that the check
/// whether another process has the port is made once.
#[derive(Debug, Default)]
pub(crate) struct Opened(Mutex<HashMap<u16, Vec<StdListener>>>);

impl Opened {
    fn take(&self, worker: &Worker, port: u16) -> io::Result<StdListener> {
        let settings = worker.settings();
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = opened.entry(port).or_default();
        if sockets.is_empty() {
            *sockets = match (settings.inherited.get(&port), settings.gateway) {
                (Some(inherited), _) => socket::share(inherited, settings.workers.max(1))?,
                (None, Some(ip)) => socket::listen(SocketAddr::new(ip, port), settings.workers.max(1))?,
                (None, None) => return Err(io::Error::other("not a gateway")),
            };
        }
        sockets.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn forget(&self, port: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&port);
    }
}

/// Opens and closes this worker's listeners with every change, for as long as the worker lives.
pub(crate) async fn follow(worker: Rc<Worker>) {
    let mut changes = worker.changes();
    let mut open: HashMap<u16, AbortHandle> = HashMap::new();
    loop {
        changes.borrow_and_update();
        reconcile(&worker, &mut open);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = worker.drain().begun() => return,
        }
    }
}

fn reconcile(worker: &Rc<Worker>, open: &mut HashMap<u16, AbortHandle>) {
    let wanted: BTreeSet<u16> = worker.listener_ports();
    open.retain(|port, accepting| {
        let keep = wanted.contains(port);
        if !keep {
            accepting.abort();
            worker.opened().forget(*port);
            tracing::info!(port, "listener closed");
        }
        keep
    });
    for port in wanted {
        if open.contains_key(&port) {
            continue;
        }
        match worker.opened().take(worker, port).and_then(TcpListener::from_std) {
            Ok(listener) => {
                let accepting = listen::serve(Rc::clone(worker), listener, Door::Gateway(port));
                open.insert(port, spawn_local(accepting).abort_handle());
                tracing::info!(port, "listener open");
            }
            Err(error) => tracing::error!(port, %error, "cannot open the listener: is the port taken?"),
        }
    }
}
