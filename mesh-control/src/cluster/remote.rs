//! A mesh in a cluster, as the command line sees it: read by whoever holds a kubeconfig, with that person's rights.
//!
//! The API server is the only thing that is dialled. Control plane and proxies are asked through its port-forward ([`forward`]),
//! objects are read by the same code as the control plane's ([`objects`]), so that what is explained and linted is what the
//! mesh sees.
//!
//! Nothing here is used by the control plane, and nothing but [`change`] writes.

pub mod change;
pub mod check;
pub mod exec;
pub mod forward;
mod list;
pub mod logs;
pub mod migrate;
pub mod objects;
pub mod pods;
pub mod rights;
pub mod status;

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use serde_json::Value;

use super::request::{Method, RequestError, send};

/// Where the control plane is installed.
pub const SYSTEM_NAMESPACE: &str = "mesh-system";
/// An API server that does not take the connection in this time is not there.
const CONNECT: Duration = Duration::from_secs(5);

/// Which cluster is meant.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// Instead of `KUBECONFIG`.
    pub kubeconfig: Option<PathBuf>,
    /// Instead of the current context.
    pub context: Option<String>,
}

/// Why something of a cluster cannot be told or done.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// No API server can be found. What was tried names its causes itself.
    #[error("no API server: --kubeconfig, KUBECONFIG, ~/.kube/config or a pod's account must name one; {0}")]
    Unknown(Box<dyn std::error::Error + Send + Sync>),
    /// A request failed.
    #[error("{0}")]
    Request(String, #[source] RequestError),
    /// What was asked for is not there, or not as it should be.
    #[error("{0}")]
    Finding(String),
    /// A pod of the mesh does not answer.
    #[error("{pod}: port {port} cannot be asked through the API server: {reason}")]
    Silent {
        /// `namespace/name`.
        pod: String,
        /// The pod's port.
        port: u16,
        /// What is known.
        reason: String,
    },
    /// Not in time; says what.
    #[error("{0}")]
    Late(String),
}

impl RemoteError {
    /// Whether something that is needed cannot be reached; otherwise it was asked, and says no.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Unknown(_) | Self::Silent { .. } => true,
            Self::Request(_, error) => error.code().is_none(),
            Self::Finding(_) | Self::Late(_) => false,
        }
    }

    fn request(what: impl Into<String>) -> impl FnOnce(RequestError) -> Self {
        move |error| Self::Request(what.into(), error)
    }
}

/// A cluster that can be asked.
#[derive(Clone)]
pub struct Remote {
    client: Client,
    /// The context's namespace.
    namespace: String,
}

impl Remote {
    /// Finds the API server; it is not asked anything yet.
    ///
    /// # Errors
    /// When nothing names one, or what names it cannot be read.
    pub async fn connect(reach: &Reach) -> Result<Self, RemoteError> {
        // An error means that there is a provider already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut config = config(reach).await.map_err(RemoteError::Unknown)?;
        config.connect_timeout = Some(CONNECT);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).map_err(|error| RemoteError::Unknown(Box::new(error)))?;
        Ok(Self { client, namespace })
    }

    /// With a client that exists already.
    pub fn with(client: Client) -> Self {
        let namespace = client.default_namespace().to_owned();
        Self { client, namespace }
    }

    /// The client.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace that is meant when none is named.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// An object; none if it is not there.
    async fn look(&self, path: &str) -> Result<Option<Value>, RemoteError> {
        match send(self.client(), Method::Get, path, None).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(RemoteError::Request(path.to_owned(), error)),
        }
    }
}

async fn config(reach: &Reach) -> Result<Config, Box<dyn std::error::Error + Send + Sync>> {
    let options = KubeConfigOptions { context: reach.context.clone(), ..KubeConfigOptions::default() };
    Ok(match &reach.kubeconfig {
        Some(file) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?,
        None if reach.context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    })
}
