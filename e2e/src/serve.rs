//! The server: one accept loop per port, and an orderly end.
//!
//! On SIGTERM or SIGINT it stops accepting, lets what is in flight finish within the grace period, then leaves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use crate::behaviour::Behaviour;
use crate::client::connect::{HttpClient, HttpOptions, http_client};
use crate::client::print_line;
use crate::report::Pod;
use crate::settings::{Kind, Listen, ServeSettings};
use crate::tls;

mod body;
mod calls;
mod connection;
mod grpc;
mod http;
mod tcp;
mod websocket;

/// Connections served at once on one port; more wait in the listen queue.
const MAX_CONNECTIONS: usize = 16_384;
/// Pause after a failed accept (for example: out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every request needs to know of this application.
struct App {
    pod: Pod,
    settings: ServeSettings,
    defaults: Behaviour,
    client: HttpClient,
}

/// Held by everything in flight: says when to stop, and keeps the process alive until it is dropped.
#[derive(Clone)]
struct Drain {
    stop: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

impl Drain {
    /// Resolves when the server is told to stop.
    async fn stopped(&mut self) {
        // An error means that the sender is gone, which is a stop as well.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

/// Serves until told to stop.
pub(crate) async fn run(settings: ServeSettings) -> anyhow::Result<()> {
    settings.validate()?;
    let (stop_sender, stop) = watch::channel(false);
    let (alive, mut finished) = mpsc::channel(1);
    let drain = Drain { stop, _alive: alive };
    let grace = settings.grace;
    let app = Arc::new(App {
        pod: Pod::from_settings(&settings),
        defaults: Behaviour::from_settings(&settings),
        client: http_client(&HttpOptions::default())?,
        settings,
    });
    for listen in &app.settings.listen {
        open(&app, *listen, drain.clone()).await?;
    }
    drop(drain);

    terminated().await?;
    stop_sender.send_replace(true);
    // Nothing is ever sent: the channel ends when the last holder of a `Drain` is gone.
    let _ = tokio::time::timeout(grace, finished.recv()).await;
    Ok(())
}

async fn open(app: &Arc<App>, listen: Listen, drain: Drain) -> anyhow::Result<()> {
    let address = (app.settings.bind, listen.port);
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on port {}", listen.port))?;
    print_line(&format!("{} listens on {} ({:?})", app.pod.pod, listener.local_addr()?, listen.kind));
    let acceptor = match (listen.kind, &app.settings.tls_cert, &app.settings.tls_key) {
        (Kind::Https, Some(chain), Some(key)) => {
            let clients = app.settings.tls_client_ca.as_deref();
            Some(TlsAcceptor::from(tls::server_config(chain, key, clients)?))
        }
        _ => None,
    };
    tokio::spawn(accept(app.clone(), listener, listen.kind, acceptor, drain));
    Ok(())
}

async fn accept(
    app: Arc<App>,
    listener: TcpListener,
    kind: Kind,
    tls: Option<TlsAcceptor>,
    mut drain: Drain,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.stopped() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Small answers should not wait for more to come; a failure here costs only time.
        let _ = stream.set_nodelay(true);
        let (app, tls, drain) = (app.clone(), tls.clone(), drain.clone());
        tokio::spawn(async move {
            match (kind, tls) {
                (Kind::Tcp, _) => tcp::serve(&app, stream, drain).await,
                (_, Some(tls)) => connection::serve_tls(app, &tls, stream, peer, drain).await,
                (_, None) => connection::serve(app, stream, peer, None, drain).await,
            }
            drop(slot);
        });
    }
}

async fn terminated() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
