//! TLS that a gateway terminates with certificates of Secrets: which ones, whom it trusts, what it speaks.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_core::model::{CipherSuite, ServerTls, TlsMode, TlsVersion};

use crate::api::networking::{ServerTlsSettings, TlsProtocol};
use crate::problem::Problem;
use crate::translate::scope::Scope;
use crate::world::InvalidSecret;

/// A field that says something that cannot be, and why.
pub(super) type Wrong = (&'static str, String);

/// The settings of a server that terminates TLS. A Secret that is missing or lacks something is `lacking`, and leaves the
/// server where it is: without it, its hosts would be another server's that may ask less of clients.
///
/// # Errors
/// When no Secret is named, or nothing is left to speak.
pub(super) fn tls(
    scope: &Scope<'_>,
    settings: &ServerTlsSettings,
    mode: TlsMode,
    gateway: &str,
    lacking: &mut Vec<Wrong>,
) -> Result<ServerTls, Wrong> {
    let mut secrets = certificates(scope, settings, gateway, lacking)?.into_iter();
    let mut tls = ServerTls::new(mode, secrets.next());
    tls.more_secrets = secrets.collect();
    (tls.min_version, tls.max_version) = versions(settings)?;
    tls.cipher_suites = settings.cipher_suites.iter().filter_map(|name| CipherSuite::named(name)).collect();
    if tls.cipher_suites.is_empty() && !settings.cipher_suites.is_empty() {
        return Err((
            "tls.cipherSuites",
            "none of these suites is spoken; the server is left out".to_owned(),
        ));
    }
    if mode != TlsMode::Simple {
        ask_for_certificate(scope, settings, gateway, &mut tls, lacking)?;
    }
    Ok(tls)
}

fn certificates(
    scope: &Scope<'_>,
    settings: &ServerTlsSettings,
    gateway: &str,
    lacking: &mut Vec<Wrong>,
) -> Result<Vec<String>, Wrong> {
    let names = match &settings.credential_names[..] {
        [] => std::slice::from_ref(&settings.credential_name),
        several => several,
    };
    names.iter().map(|name| secret(scope, name, gateway, lacking)).collect()
}

/// The secret lies beside the gateway's pod, as Istio has it, or, for a shared gateway, beside the Gateway: never in a
/// third namespace, so that no tenant serves another's certificate (TN-02).
fn secret(scope: &Scope<'_>, named: &str, gateway: &str, lacking: &mut Vec<Wrong>) -> Result<String, Wrong> {
    let name = bare(named);
    if name.is_empty() {
        let message = "the certificate must be named here; files of the gateway are not read";
        return Err(("tls.credentialName", message.to_owned()));
    }
    let pod = scope.client.namespace;
    let other = Some(gateway).filter(|_| scope.is_shared_gateway());
    match scope.world.tls_secret(pod, name) {
        Ok(_) => Ok(format!("{pod}/{name}")),
        Err(error) => match other.map(|other| (other, scope.world.tls_secret(other, name))) {
            Some((other, Ok(_))) => Ok(format!("{other}/{name}")),
            Some((other, Err(theirs))) if error.is_absent() && !theirs.is_absent() => {
                lacking.push(("tls.credentialName", meanwhile(&theirs)));
                Ok(format!("{other}/{name}"))
            }
            _ => {
                lacking.push(("tls.credentialName", meanwhile(&error)));
                Ok(format!("{pod}/{name}"))
            }
        },
    }
}

/// What is wrong with a Secret, and what becomes of handshakes until it is right.
pub(crate) fn meanwhile(error: &InvalidSecret) -> String {
    if error.is_absent() {
        format!("{error}; until it does, handshakes fail")
    } else {
        format!("{error}; gateways go on with its last good content, and where there is none handshakes fail")
    }
}

fn bare(name: &str) -> &str {
    name.trim_start_matches("kubernetes://").trim_start_matches("kubernetes-gateway://")
}

/// What is asked of the client's certificate. Without anyone to trust nobody is let in.
fn ask_for_certificate(
    scope: &Scope<'_>,
    settings: &ServerTlsSettings,
    gateway: &str,
    tls: &mut ServerTls,
    lacking: &mut Vec<Wrong>,
) -> Result<(), Wrong> {
    let apart = bare(&settings.ca_cert_credential_name);
    let (field, trusted) = if apart.is_empty() {
        ("tls.credentialName", tls.secret.clone().unwrap_or_default())
    } else {
        let places = [scope.client.namespace, gateway];
        let places = if scope.is_shared_gateway() { &places[..] } else { &places[..1] };
        let found = places.iter().find(|place| scope.world.ca_secret(place, apart).is_ok());
        tls.trust = Some(format!("{}/{apart}", found.unwrap_or(&places[0])));
        ("tls.caCertCredentialName", tls.trust.clone().unwrap_or_default())
    };
    let (namespace, name) = trusted.split_once('/').unwrap_or_default();
    // That it does not exist has been told where it is to be shown.
    let is_told = lacking.iter().any(|(told, _)| *told == field);
    let trusted = scope.world.trust_secret(namespace, name);
    if let Some(error) = trusted.err().filter(|error| !(is_told && error.is_absent())) {
        let message = format!("{error}, whose client certificates to trust is not said; handshakes fail");
        lacking.push((field, message));
    }
    tls.subject_alt_names.clone_from(&settings.subject_alt_names);
    let hash = |hash: &String| hexadecimal(hash).ok_or_else(|| wrong("tls.verifyCertificateHash", hash));
    tls.certificate_hashes = settings.verify_certificate_hash.iter().map(hash).collect::<Result<_, _>>()?;
    let key = |hash: &String| from_base64(hash).ok_or_else(|| wrong("tls.verifyCertificateSpki", hash));
    tls.key_hashes = settings.verify_certificate_spki.iter().map(key).collect::<Result<_, _>>()?;
    Ok(())
}

fn wrong(field: &'static str, hash: &str) -> Wrong {
    (field, format!("{hash:?} is not a SHA-256 hash; the server is left out"))
}

/// 64 hexadecimal digits, with or without colons between bytes.
fn hexadecimal(hash: &str) -> Option<String> {
    let digits = hash.replace(':', "").to_ascii_lowercase();
    (digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(digits)
}

fn from_base64(hash: &str) -> Option<String> {
    let bytes = STANDARD.decode(hash).ok()?;
    (bytes.len() == 32).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The oldest and the newest version.
type Versions = (Option<TlsVersion>, Option<TlsVersion>);

fn versions(settings: &ServerTlsSettings) -> Result<Versions, Wrong> {
    let min = matches!(settings.min_protocol_version, Some(TlsProtocol::V1_3)).then_some(TlsVersion::V13);
    let max = match settings.max_protocol_version {
        Some(TlsProtocol::V1_0 | TlsProtocol::V1_1) => {
            let message = "versions before TLS 1.2 are not spoken; the server is left out";
            return Err(("tls.maxProtocolVersion", message.to_owned()));
        }
        Some(TlsProtocol::V1_2) => Some(TlsVersion::V12),
        Some(TlsProtocol::Auto | TlsProtocol::V1_3) | None => None,
    };
    if min.is_some() && max.is_some() {
        let message = "it is below minProtocolVersion; the server is left out";
        return Err(("tls.maxProtocolVersion", message.to_owned()));
    }
    Ok((min, max))
}

/// What of the settings has no effect, or less than it says.
pub(super) fn unsupported(settings: &ServerTlsSettings, field: &str, tell: &mut dyn FnMut(Problem)) {
    if matches!(settings.min_protocol_version, Some(TlsProtocol::V1_0 | TlsProtocol::V1_1)) {
        let message = "versions before TLS 1.2 are not spoken; the oldest is TLS 1.2";
        tell(Problem::warning(format!("{field}.tls.minProtocolVersion"), message));
    }
    for (at, name) in settings.cipher_suites.iter().enumerate() {
        if CipherSuite::named(name).is_none() {
            let message = format!("{name:?} is not spoken; has no effect");
            tell(Problem::warning(format!("{field}.tls.cipherSuites[{at}]"), message));
        }
    }
}
