//! The proxy's own identity and trust, hot-swapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};

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
/// Replaced as a whole: a connection sees one certificate with the anchors of the same moment.
#[derive(Default)]
pub struct MeshTls {
    current: ArcSwapOption<Material>,
    aliases: Arc<ArcSwap<Vec<String>>>,
    /// Counts changes of whom we trust.
    trust: AtomicU64,
}

struct Material {
    identity: SpiffeId,
    verifier: Arc<MeshVerifier>,
    anchors_pem: String,
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
        let verifier = Arc::new(MeshVerifier {
            anchors: anchors(anchors_pem)?,
            trust_domain: identity.trust_domain().to_owned(),
            aliases: Arc::clone(&self.aliases),
            provider: provider(),
        });
        let server = server(&verifier, &chain, key_pem)?;
        let client = |protocol: &'static [u8]| client(&verifier, &chain, key_pem, protocol);
        let clients = [client(alpn::HTTP1)?, client(alpn::HTTP2)?, client(alpn::TCP)?];
        let material = Material {
            identity: identity.clone(),
            verifier,
            anchors_pem: anchors_pem.to_owned(),
            server,
            clients,
        };
        let before = self.current.swap(Some(Arc::new(material)));
        if before.is_none_or(|before| before.anchors_pem != anchors_pem) {
            self.trust.fetch_add(1, Ordering::Release);
        }
        self.set_aliases(trust_domain_aliases);
        Ok(identity)
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
        self.current.load().as_ref().map(|material| material.anchors_pem.clone())
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
