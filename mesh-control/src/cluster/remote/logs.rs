//! What containers have written, from the API server.

use futures_util::io::AsyncBufReadExt as _;
use futures_util::stream::{BoxStream, StreamExt as _};

use super::list::escaped;
use super::pods::PodView;
use super::{Remote, RemoteError};

/// What to show of a container's output.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// All but the proxy's by default.
    pub container: Option<String>,
    /// Whether to go on with what is written later.
    pub follow: bool,
    /// So many lines of what was written before, per container.
    pub tail: usize,
}

impl Remote {
    /// Lines as they come, `container | line` where there are several containers; ends when they have, or never.
    ///
    /// # Errors
    /// When the API server does not give them.
    pub async fn logs(
        &self,
        pod: &PodView,
        wanted: &Wanted,
    ) -> Result<BoxStream<'static, String>, RemoteError> {
        let containers = wanted.container.clone().map_or_else(|| pod.default_containers(), |one| vec![one]);
        let prefixed = containers.len() > 1;
        let mut streams = Vec::new();
        for container in containers {
            let lines = self.lines(pod, &container, wanted).await?;
            let lines = lines.map(move |line| if prefixed { format!("{container} | {line}") } else { line });
            streams.push(lines.boxed());
        }
        if wanted.follow {
            return Ok(futures_util::stream::select_all(streams).boxed());
        }
        Ok(futures_util::stream::iter(streams).flatten().boxed())
    }

    async fn lines(
        &self,
        pod: &PodView,
        container: &str,
        wanted: &Wanted,
    ) -> Result<BoxStream<'static, String>, RemoteError> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?container={}&tailLines={}&follow={}",
            pod.namespace(),
            pod.name(),
            escaped(container),
            wanted.tail,
            wanted.follow,
        );
        let failed = |error: kube::Error| {
            let what = format!("the log of {container} in {}/{}", pod.namespace(), pod.name());
            RemoteError::Request(what, error.into())
        };
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(|error| failed(kube::Error::HttpError(error)))?;
        let reader = self.client().request_stream(request).await.map_err(failed)?;
        // A connection that breaks ends the lines: there is nothing more to be had.
        Ok(Box::pin(reader).lines().filter_map(|line| async { line.ok() }).boxed())
    }
}
