//! Listeners of a gateway.

use serde::{Deserialize, Serialize};

use super::{HostPattern, Origin, TcpRoute};

/// One port of a gateway. Servers of several Gateways and Ingresses may share it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: ListenerProtocol,
    /// For TLS: who is served by SNI; the most specific host wins. Empty for cleartext.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    /// The route table of cleartext HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<String>,
    /// Routes of cleartext TCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp_routes: Vec<TcpRoute>,
}

/// What is spoken on a gateway's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 in the clear; mesh TLS from sidecars is accepted as well.
    Http,
    /// TLS first, told apart by SNI: terminated or passed through.
    Tls,
    /// Any bytes.
    Tcp,
}

/// What a TLS listener does for some server names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Server {
    /// Server names.
    pub hosts: Vec<HostPattern>,
    /// How TLS is handled.
    pub tls: ServerTls,
    /// The route table for HTTP inside the TLS; without one the bytes go by `tcp_routes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<String>,
    /// Routes for passed-through and terminated TCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp_routes: Vec<TcpRoute>,
    /// The user's object.
    pub origin: Origin,
}

/// How a server handles TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerTls {
    /// The mode.
    pub mode: TlsMode,
    /// `namespace/name` of the certificate's secret; none for pass-through and mesh TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Secrets with further certificates for the same hosts, with keys of other kinds: the first that the client can
    /// verify is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_secrets: Vec<String>,
    /// `namespace/name` of the secret that says whom to trust, where that is not the certificate's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<String>,
    /// Names a client certificate must carry, one of them; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// SHA-256 hashes of client certificates, in lower-case hexadecimal. Where there are any, here or in `key_hashes`, the
    /// client's must be among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_hashes: Vec<String>,
    /// SHA-256 hashes of the public keys (SubjectPublicKeyInfo) of client certificates, in lower-case hexadecimal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key_hashes: Vec<String>,
    /// The oldest version spoken; TLS 1.2 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// The newest version spoken; TLS 1.3 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_version: Option<TlsVersion>,
    /// Cipher suites of TLS 1.2 that are spoken; all when empty. Those of TLS 1.3 cannot be chosen, as in Envoy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<CipherSuite>,
}

impl ServerTls {
    /// Plain settings of a mode with a certificate.
    pub fn new(mode: TlsMode, secret: Option<String>) -> Self {
        Self { mode, secret, ..Self::default() }
    }

    /// Every secret that the server names.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        self.certificates().chain(&self.trust)
    }

    /// The secrets whose certificates are shown, the first choice first.
    pub fn certificates(&self) -> impl Iterator<Item = &String> {
        self.secret.iter().chain(&self.more_secrets)
    }

    /// Whether clients may or must show a certificate of an authority that is trusted.
    pub const fn asks_for_certificate(&self) -> bool {
        matches!(self.mode, TlsMode::Mutual | TlsMode::OptionalMutual)
    }
}

/// A version of TLS that is spoken at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TlsVersion {
    /// TLS 1.2
    V12,
    /// TLS 1.3
    V13,
}

/// A cipher suite of TLS 1.2, by its OpenSSL name. Suites without forward secrecy or authenticated encryption are never
/// spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CipherSuite {
    /// TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    #[serde(rename = "ECDHE-ECDSA-AES128-GCM-SHA256")]
    EcdsaAes128,
    /// TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
    #[serde(rename = "ECDHE-ECDSA-AES256-GCM-SHA384")]
    EcdsaAes256,
    /// TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    #[serde(rename = "ECDHE-ECDSA-CHACHA20-POLY1305")]
    EcdsaChaCha20,
    /// TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    #[serde(rename = "ECDHE-RSA-AES128-GCM-SHA256")]
    RsaAes128,
    /// TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
    #[serde(rename = "ECDHE-RSA-AES256-GCM-SHA384")]
    RsaAes256,
    /// TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    #[serde(rename = "ECDHE-RSA-CHACHA20-POLY1305")]
    RsaChaCha20,
}

impl CipherSuite {
    /// The suite of an OpenSSL name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ECDHE-ECDSA-AES128-GCM-SHA256" => Self::EcdsaAes128,
            "ECDHE-ECDSA-AES256-GCM-SHA384" => Self::EcdsaAes256,
            "ECDHE-ECDSA-CHACHA20-POLY1305" => Self::EcdsaChaCha20,
            "ECDHE-RSA-AES128-GCM-SHA256" => Self::RsaAes128,
            "ECDHE-RSA-AES256-GCM-SHA384" => Self::RsaAes256,
            "ECDHE-RSA-CHACHA20-POLY1305" => Self::RsaChaCha20,
            _ => return None,
        })
    }
}

/// Gateway `tls.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TlsMode {
    /// Terminated; no client certificate asked for.
    #[default]
    Simple,
    /// Terminated; a client certificate is required.
    Mutual,
    /// Terminated; a client certificate is asked for and verified if given.
    OptionalMutual,
    /// Terminated with mesh identities.
    Mesh,
    /// Not terminated.
    Passthrough,
}
