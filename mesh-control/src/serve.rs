//! What proxies talk to: certificates and the configuration stream, both over TLS with our own certificate.
//!
//! [`Plane`] is what the two services share: the world as it is now, who may sign, and what is known of every connected
//! proxy. A new world is put in place whole; streams notice by its generation and send what differs.

mod config;
mod identity;
mod incoming;
mod judge;
mod own;
mod registry;
mod translate;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use mesh_core::wire::MAX_MESSAGE;
use mesh_core::wire::v1::config_server::ConfigServer;
use mesh_core::wire::v1::identity_server::IdentityServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;

pub use registry::{ProxyStatus, Registry};

use crate::api::core::Pod;
use crate::ca::keeper::Standing;
use crate::tokens::{Caller, Verifier};
use crate::view::View;

/// What the services share.
pub struct Plane {
    view: ArcSwap<View>,
    generation: watch::Sender<u64>,
    revision: AtomicU64,
    standing: watch::Sender<Arc<Standing>>,
    /// Why the authority that the user has given is not used.
    refused_authority: watch::Sender<Option<String>>,
    verifier: Verifier,
    registry: Registry,
    judge: judge::Judge,
    turns: translate::Turns,
}

impl Plane {
    /// A plane that knows nothing yet.
    pub fn new(standing: Standing, verifier: Verifier) -> Arc<Self> {
        Arc::new(Self {
            view: ArcSwap::from_pointee(View::default()),
            generation: watch::Sender::new(0),
            revision: AtomicU64::new(0),
            standing: watch::Sender::new(Arc::new(standing)),
            refused_authority: watch::Sender::new(None),
            verifier,
            registry: Registry::default(),
            judge: judge::Judge::start(),
            turns: translate::Turns::default(),
        })
    }

    /// Puts a new view of the world in place; every stream follows.
    pub fn publish(&self, view: View) {
        let (generation, view) = (view.generation(), Arc::new(view));
        self.view.store(Arc::clone(&view));
        self.generation.send_replace(generation);
        self.judge.look_at(view);
    }

    /// Changes with every view that is put in place.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Notes that the view in place has everything up to the source's revision.
    pub fn note_revision(&self, revision: u64) {
        self.revision.store(revision, Ordering::Release);
    }

    /// The source's revision up to which the view in place has everything.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The world as it is now.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The latest world whose problems have been found out; the one in place, or one soon before it.
    pub fn judged(&self) -> Arc<View> {
        self.judge.judged()
    }

    /// What is known of connected proxies.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Who signs, and whom proxies are to trust.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.borrow())
    }

    /// Changes when another signs, or others are to be trusted.
    pub fn standings(&self) -> watch::Receiver<Arc<Standing>> {
        self.standing.subscribe()
    }

    /// Puts another authority in force; every stream follows.
    pub fn stand(&self, standing: Standing) {
        self.standing.send_replace(Arc::new(standing));
    }

    /// Notes why the authority that the user has given is not used, or that nothing is wrong. True if that is new; it is
    /// logged then.
    pub fn refuse_authority(&self, why: Option<String>) -> bool {
        let is_new = *self.refused_authority.borrow() != why;
        if is_new {
            if let Some(error) = &why {
                tracing::error!(
                    error,
                    "the new certificate authority is refused; the present one stays in force"
                );
            }
            self.refused_authority.send_replace(why);
        }
        is_new
    }

    /// Why the authority that the user has given is not used.
    pub fn refused_authority(&self) -> Option<String> {
        self.refused_authority.borrow().clone()
    }

    /// Whom to trust, PEM.
    pub fn root(&self) -> String {
        self.standing().anchors.clone()
    }

    /// Who calls, by the token in the call's metadata. The pod it is bound to must exist with the same UID and service
    /// account, so that a token does not outlive its pod.
    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let refuse = || Status::unauthenticated("a valid service-account token is required");
        let token = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(refuse)?;
        let caller = self.verifier.verify(token).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "a token was refused");
            refuse()
        })?;
        let view = self.view();
        let pod = view.world().get::<Pod>(&caller.namespace, &caller.pod);
        let bound = pod.is_some_and(|pod| {
            pod.object.meta.uid.as_deref() == Some(caller.pod_uid.as_str())
                && pod.spec.spec.service_account_name.as_deref().unwrap_or("default")
                    == caller.service_account
        });
        if bound {
            return Ok(caller);
        }
        tracing::warn!(
            namespace = caller.namespace,
            pod = caller.pod,
            "a token's pod does not exist or is another one"
        );
        Err(refuse())
    }

    /// Serves until `stop`.
    ///
    /// # Errors
    /// When the listener fails or our own certificate cannot be made.
    pub async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let address: SocketAddr = listener.local_addr()?;
        let own = Arc::new(own::Certificate::new(self.standings(), address.ip())?);
        let configuration = ConfigServer::new(config::Service::new(Arc::clone(self), stop.clone()));
        Server::builder()
            .concurrency_limit_per_connection(64)
            .max_concurrent_streams(64)
            .http2_keepalive_interval(Some(config::KEEP_ALIVE))
            .http2_keepalive_timeout(Some(config::KEEP_ALIVE_TIMEOUT))
            .add_service(
                configuration.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE),
            )
            .add_service(IdentityServer::new(identity::Service::new(Arc::clone(self))))
            .serve_with_incoming_shutdown(incoming::connections(listener, own), stop.cancelled_owned())
            .await?;
        Ok(())
    }
}
