//! The proxy's own identity and trust, hot-swapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::facts::identity;
use super::verify::MeshVerifier;
use super::{PeerFacts, TlsError, alpn, anchors, certificates, peer_facts, private_key, provider};
use crate::identity::SpiffeId;

/// What a client connection will carry: decides the ALPN it offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MeshAlpn {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Anything else.
    Tcp,
}

/// A proxy's certificate, key and trust anchors, and the configurations made of them.
///
/// Certificate and key are replaced as a whole. Whom we trust may change without them: every handshake looks at the anchors of
/// its own moment.
#[derive(Default)]
pub struct MeshTls {
    current: ArcSwapOption<Material>,
    aliases: Arc<ArcSwap<Vec<String>>>,
    anchors: Arc<ArcSwap<Vec<TrustAnchor<'static>>>>,
    /// What the anchors were read from; none before the first.
    anchors_pem: ArcSwapOption<String>,
    /// Counts changes of whom we trust.
    trust: AtomicU64,
}

struct Material {
    identity: SpiffeId,
    verifier: Arc<MeshVerifier>,
    server: Arc<ServerConfig>,
    /// By [`MeshAlpn`], in the order of its variants.
    clients: [Arc<ClientConfig>; 3],
}

impl MeshTls {
    /// Takes a new certificate chain, key and trust anchors (all PEM) into use. What was held stays when they are not
    /// usable. Returns the identity.
    ///
    /// # Errors
    /// When a part is missing or broken, when certificate and key do not fit, or the leaf has no identity.
    pub fn install(
        &self,
        chain_pem: &str,
        key_pem: &str,
        anchors_pem: &str,
        trust_domain_aliases: &[String],
    ) -> Result<SpiffeId, TlsError> {
        let chain = certificates(chain_pem)?;
        let identity = identity(&chain[0])?;
        let trusted = anchors(anchors_pem)?;
        let verifier = Arc::new(MeshVerifier {
            anchors: Arc::clone(&self.anchors),
            trust_domain: identity.trust_domain().to_owned(),
            aliases: Arc::clone(&self.aliases),
            provider: provider(),
        });
        let server = server(&verifier, &chain, key_pem)?;
        let client = |protocol: &'static [u8]| client(&verifier, &chain, key_pem, protocol);
        let clients = [client(alpn::HTTP1)?, client(alpn::HTTP2)?, client(alpn::TCP)?];
        let material = Material { identity: identity.clone(), verifier, server, clients };
        self.trust_anchors_are(anchors_pem, trusted);
        self.current.store(Some(Arc::new(material)));
        self.set_aliases(trust_domain_aliases);
        Ok(identity)
    }

    /// Says whom to trust, PEM, from the next handshake on; certificate and open connections stay. Whether that is another set
    /// than before.
    ///
    /// # Errors
    /// When there is no anchor in it, or one is broken; what was trusted is trusted on.
    pub fn set_anchors(&self, anchors_pem: &str) -> Result<bool, TlsError> {
        let trusted = anchors(anchors_pem)?;
        Ok(self.trust_anchors_are(anchors_pem, trusted))
    }

    fn trust_anchors_are(&self, pem: &str, anchors: Vec<TrustAnchor<'static>>) -> bool {
        if self.anchors_pem.load().as_ref().is_some_and(|held| ***held == *pem) {
            return false;
        }
        let before = self.anchors.swap(Arc::new(anchors));
        let now = self.anchors.load();
        if before.iter().any(|anchor| !now.contains(anchor)) {
            self.part_with_connections();
        }
        self.anchors_pem.store(Some(Arc::new(pem.to_owned())));
        self.trust.fetch_add(1, Ordering::Release);
        true
    }

    /// Connections to peers are known by the configuration that they were made with: those made before an authority was dropped
    /// are not used for further requests. That more are trusted ends none.
    fn part_with_connections(&self) {
        let Some(held) = self.current.load_full() else { return };
        let clients = held.clients.each_ref().map(|config| Arc::new(ClientConfig::clone(config)));
        let (identity, verifier) = (held.identity.clone(), Arc::clone(&held.verifier));
        let material = Material { identity, verifier, server: Arc::clone(&held.server), clients };
        self.current.store(Some(Arc::new(material)));
    }

    /// Says which other trust domains count as ours, from the next handshake on. The configuration that says so may come
    /// long after the certificate, and change while it is held.
    pub fn set_aliases(&self, aliases: &[String]) {
        if **self.aliases.load() != *aliases {
            self.aliases.store(Arc::new(aliases.to_vec()));
            self.trust.fetch_add(1, Ordering::Release);
        }
    }

    /// Another number whenever another set of authorities or trust domains is trusted.
    pub fn trust_generation(&self) -> u64 {
        self.trust.load(Ordering::Acquire)
    }

    /// Whether a client with this chain would be let in by those whom we trust now, at the time of its handshake: that
    /// its certificate has run out since is no reason to end what it has begun.
    pub fn trusts(&self, chain: &[CertificateDer<'_>], handshake: UnixTime) -> bool {
        let Some((leaf, intermediates)) = chain.split_first() else { return false };
        let current = self.current.load();
        let verify = |material: &Arc<Material>| {
            material.verifier.verify_client_cert(leaf, intermediates, handshake).is_ok()
        };
        current.as_ref().is_some_and(verify)
    }

    /// Configuration for accepting mesh peers: a client certificate is demanded.
    ///
    /// # Errors
    /// [`TlsError::NotReady`] before the first [`MeshTls::install`].
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        self.current.load().as_ref().map(|material| Arc::clone(&material.server)).ok_or(TlsError::NotReady)
    }

    /// Configuration for dialling mesh peers. It accepts every identity of the mesh: the caller narrows it with
    /// [`expect_identity`] before the first byte.
    ///
    /// # Errors
    /// [`TlsError::NotReady`] before the first [`MeshTls::install`].
    pub fn client_config(&self, alpn: MeshAlpn) -> Result<Arc<ClientConfig>, TlsError> {
        self.current
            .load()
            .as_ref()
            .map(|material| Arc::clone(&material.clients[alpn as usize]))
            .ok_or(TlsError::NotReady)
    }

    /// Our own identity, once there is one.
    pub fn identity(&self) -> Option<SpiffeId> {
        self.current.load().as_ref().map(|material| material.identity.clone())
    }

    /// The trust anchors in use, PEM.
    pub fn trust_anchors(&self) -> Option<String> {
        self.anchors_pem.load().as_ref().map(|pem| String::clone(pem))
    }

    /// Our own trust domain and its aliases.
    pub fn trust_domains(&self) -> Vec<String> {
        let own = self.identity().map(|identity| identity.trust_domain().to_owned());
        own.into_iter().chain(self.aliases.load().iter().cloned()).collect()
    }
}

/// Who the peer of a finished handshake is, if it may serve `expected`. Without an expectation any identity of the mesh
/// may.
///
/// # Errors
/// [`TlsError::WrongPeer`], or when the chain carries no identity.
pub fn expect_identity(
    chain: &[CertificateDer<'_>],
    expected: Option<&SpiffeId>,
) -> Result<PeerFacts, TlsError> {
    let facts = peer_facts(chain)?;
    match expected {
        Some(expected) if *expected != facts.identity => {
            Err(TlsError::WrongPeer { found: facts.identity.to_string(), expected: expected.to_string() })
        }
        _ => Ok(facts),
    }
}

fn server(
    verifier: &Arc<MeshVerifier>,
    chain: &[CertificateDer<'static>],
    key_pem: &str,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Pair)?
        .with_client_cert_verifier(Arc::<MeshVerifier>::clone(verifier))
        .with_single_cert(chain.to_vec(), private_key(key_pem)?)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = [alpn::HTTP2, alpn::HTTP1, alpn::TCP].map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn client(
    verifier: &Arc<MeshVerifier>,
    chain: &[CertificateDer<'static>],
    key_pem: &str,
    protocol: &[u8],
) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Pair)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<MeshVerifier>::clone(verifier))
        .with_client_auth_cert(chain.to_vec(), private_key(key_pem)?)
        .map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
