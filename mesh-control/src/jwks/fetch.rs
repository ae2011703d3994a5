//! One fetch: resolve, check the address, dial that very address, read a bounded answer.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::{Places, is_allowed};
use crate::translate::tokens::{LARGEST_KEYS, check};
use crate::world::KeySource;

/// For one answer, from name to last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Where the system keeps the authorities it trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not `http://` or `https://` with a host.
    #[error("{0:?} is not an http or https address")]
    Address(String),
    /// The name has no address.
    #[error("{0} has no address")]
    Unresolved(String),
    /// An address that we do not dial for tenants.
    #[error("{0} is an address that keys are not fetched from; private ones need a Service or ServiceEntry")]
    Forbidden(String),
    /// No answer.
    #[error("{0}: {1}")]
    Failed(String, String),
    /// Another status than 200; redirects are not followed.
    #[error("{0} answered with status {1}")]
    Status(String, u16),
    /// Not in time.
    #[error("{0} did not answer in 5 s")]
    Late(String),
    /// What came is no set of keys.
    #[error("{0}: {1}")]
    Keys(String, String),
}

/// The keys of a source.
pub(super) async fn keys(
    source: &KeySource,
    places: &Places,
    own: &[SocketAddr],
) -> Result<String, FetchError> {
    let uri = match source {
        KeySource::Uri(uri) => uri.clone(),
        KeySource::Issuer(issuer) => {
            let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            let text = get(&address, places, own).await?;
            let found: Option<String> = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|description| Some(description.get("jwks_uri")?.as_str()?.to_owned()));
            let uri = found.ok_or_else(|| FetchError::Keys(address, "names no jwks_uri".to_owned()))?;
            // Another host than the issuer's is declared by nobody: it must be a public one.
            if host_of(&uri) != host_of(issuer) {
                return read_keys(&uri, &Places::default(), own).await;
            }
            uri
        }
    };
    read_keys(&uri, places, own).await
}

async fn read_keys(uri: &str, places: &Places, own: &[SocketAddr]) -> Result<String, FetchError> {
    let text = get(uri, places, own).await?;
    check(&text).map_err(|why| FetchError::Keys(uri.to_owned(), why))?;
    Ok(text)
}

fn host_of(uri: &str) -> Option<String> {
    Some(uri.parse::<Uri>().ok()?.host()?.to_ascii_lowercase())
}

async fn get(address: &str, places: &Places, own: &[SocketAddr]) -> Result<String, FetchError> {
    let fetched = tokio::time::timeout(DEADLINE, get_patiently(address, places, own)).await;
    fetched.unwrap_or_else(|_| Err(FetchError::Late(address.to_owned())))
}

async fn get_patiently(address: &str, places: &Places, own: &[SocketAddr]) -> Result<String, FetchError> {
    let not_an_address = || FetchError::Address(address.to_owned());
    let uri: Uri = address.parse().map_err(|_| not_an_address())?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(not_an_address()),
    };
    let host = uri.host().ok_or_else(not_an_address)?.to_owned();
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let failed = |error: &dyn std::fmt::Display| FetchError::Failed(address.to_owned(), error.to_string());
    let target = target(&host, port, places, own).await?;
    let stream = TcpStream::connect(target).await.map_err(|error| failed(&error))?;
    // Whoever is reached from its own address is this machine, under whichever of its names.
    if stream.local_addr().map_err(|error| failed(&error))?.ip() == target.ip() {
        return Err(FetchError::Forbidden(target.ip().to_string()));
    }
    if !tls {
        return exchange(stream, &uri, address).await;
    }
    let name = ServerName::try_from(host).map_err(|error| failed(&error))?;
    let stream = connector().connect(name, stream).await.map_err(|error| failed(&error))?;
    exchange(stream, &uri, address).await
}

/// The address to dial. It is dialled as it was checked: a name is not resolved twice.
async fn target(
    host: &str,
    port: u16,
    places: &Places,
    own: &[SocketAddr],
) -> Result<SocketAddr, FetchError> {
    let declared = places.addresses.get(&port).into_iter().flatten().copied();
    let mut candidates: Vec<SocketAddr> = declared.collect();
    if candidates.is_empty() {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let found = lookup_host((bare, port)).await.map_err(|_| FetchError::Unresolved(host.to_owned()))?;
        candidates.extend(found);
    }
    let first = candidates.first().copied().ok_or_else(|| FetchError::Unresolved(host.to_owned()))?;
    let is_own =
        |address: &SocketAddr| own.iter().any(|own| own.ip() == address.ip() && !own.ip().is_unspecified());
    let allowed = |address: &SocketAddr| is_allowed(address.ip(), places.declared) && !is_own(address);
    let chosen = candidates.into_iter().find(allowed);
    chosen.ok_or_else(|| FetchError::Forbidden(first.ip().to_string()))
}

async fn exchange<S>(stream: S, uri: &Uri, address: &str) -> Result<String, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: &dyn std::fmt::Display| FetchError::Failed(address.to_owned(), error.to_string());
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|error| failed(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header("host", authority.rsplit('@').next().unwrap_or(authority))
        .header("accept", "application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
        if answer.status() != 200 {
            return Err(FetchError::Status(address.to_owned(), answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), LARGEST_KEYS).collect().await;
        let body = body.map_err(|error| failed(&error))?.to_bytes();
        String::from_utf8(body.into()).map_err(|error| failed(&error))
    };
    tokio::pin!(answer);
    // The connection is driven only as long as the answer is awaited, and closes with it.
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(failed(&error)),
        },
    }
}

/// Trusts the system's authorities; without any, no https address can be fetched from.
fn connector() -> TlsConnector {
    static CONFIG: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
        let mut roots = rustls::RootCertStore::empty();
        let text = std::fs::read(AUTHORITIES).unwrap_or_default();
        let found =
            <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::pem_slice_iter(&text);
        roots.add_parsable_certificates(found.filter_map(Result::ok));
        let builder = rustls::ClientConfig::builder_with_provider(mesh_core::tls::provider());
        let config = builder.with_safe_default_protocol_versions().expect("the provider has both versions");
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    });
    TlsConnector::from(Arc::clone(&CONFIG))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes and closes.
    async fn serve(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        });
        address
    }

    async fn exchanged(answer: &str) -> Result<String, FetchError> {
        let stream = TcpStream::connect(serve(answer.to_owned()).await).await.unwrap();
        exchange(stream, &"http://keys/jwks".parse().unwrap(), "http://keys/jwks").await
    }

    #[tokio::test]
    async fn only_a_bounded_answer_with_status_200_is_taken() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(exchanged(answer).await.unwrap(), "{}");
        let moved = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(exchanged(moved).await, Err(FetchError::Status(_, 302))));
        let body = "x".repeat(LARGEST_KEYS + 1);
        let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        assert!(matches!(exchanged(&large).await, Err(FetchError::Failed(..))));
    }

    #[tokio::test]
    async fn forbidden_places_are_not_dialled() {
        for uri in
            ["http://127.0.0.1/jwks", "http://169.254.169.254/latest", "http://[::1]/", "http://10.0.0.1/"]
        {
            let refused = get(uri, &Places::default(), &[]).await;
            assert!(matches!(refused, Err(FetchError::Forbidden(_))), "{uri}: {refused:?}");
        }
        let own = ["93.184.216.34:15012".parse().unwrap()];
        let refused = get("http://93.184.216.34/", &Places::default(), &own).await;
        assert!(matches!(refused, Err(FetchError::Forbidden(_))));
        assert!(matches!(
            get("file:///etc/passwd", &Places::default(), &[]).await,
            Err(FetchError::Address(_))
        ));
    }
}
