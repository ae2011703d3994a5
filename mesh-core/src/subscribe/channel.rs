//! Connections to the control plane: TLS to its own certificate, and our token on every call.

use std::path::Path;
use std::time::Duration;

use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::Settings;
use crate::tls::MeshTls;
use crate::wire::CONTROL_NAME;

/// Deadline for connecting, handshake included.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is probed this often, and lost when a probe is not answered in time.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects. Trusted are the anchors of the file and those that we hold: either may have been told of a new authority first.
pub(super) async fn connect(settings: &Settings, tls: &MeshTls) -> Result<Channel, ChannelError> {
    let given = read(&settings.anchors_file).await?;
    let anchors = format!("{given}\n{}", tls.trust_anchors().unwrap_or_default());
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(anchors)).domain_name(CONTROL_NAME);
    Endpoint::from_shared(settings.control.clone())
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(ChannelError::Connect)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect()
        .await
        .map_err(ChannelError::Connect)
}

/// A call in our name.
pub(super) async fn authorized<T>(settings: &Settings, message: T) -> Result<Request<T>, ChannelError> {
    let token = read(&settings.token_file).await?;
    let value: MetadataValue<Ascii> =
        format!("Bearer {}", token.trim()).parse().map_err(|_| ChannelError::Token)?;
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("authorization", value);
    Ok(request)
}

async fn read(path: &Path) -> Result<String, ChannelError> {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|source| ChannelError::File { path: path.display().to_string(), source })
}

/// Why a call could not be begun.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    #[error("cannot read {path}")]
    File {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the token file does not hold a token")]
    Token,
    #[error("cannot connect to the control plane")]
    Connect(#[source] tonic::transport::Error),
}

/// An error with all its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
