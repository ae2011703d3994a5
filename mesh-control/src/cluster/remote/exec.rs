//! A command inside a container, through the API server; needs the right to create `pods/exec` in the pod's namespace.
//!
//! The caller's streams are the command's, and its exit code is told. No terminal is made. There is no deadline: a command may run
//! as long as it likes, and ends with the connection.

use std::convert::Infallible;
use std::pin::pin;

use futures_util::future::{pending, try_join3};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use kube::client::UpgradeConnectionError;
use kube::{Api, Client};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy};
use tokio::time::timeout;

use super::forward::{DEADLINE, told};
use super::pods::PodView;
use super::{Remote, RemoteError};
use crate::cluster::request::{Method, send};

/// The minor version from which the end of the input can be told apart from the end of the connection.
const TELLS_END: u64 = 30;
/// Bytes of each stream that are on their way.
const BUFFER: usize = 64 << 10;

/// Where a command reads and writes.
#[derive(Debug)]
pub struct Streams<I, O, E> {
    /// Standard input.
    pub input: I,
    /// Standard output.
    pub output: O,
    /// Standard error.
    pub errors: E,
}

impl Remote {
    /// Runs a command in a container, the first of the application's by default; the result is its exit code.
    ///
    /// # Errors
    /// When it cannot be run, or the connection breaks before it has ended.
    pub async fn exec<I, O, E>(
        &self,
        pod: &PodView,
        container: Option<&str>,
        command: &[String],
        streams: Streams<I, O, E>,
    ) -> Result<i32, RemoteError>
    where
        I: AsyncRead + Unpin,
        O: AsyncWrite + Unpin,
        E: AsyncWrite + Unpin,
    {
        let container = container_of(pod, container)?;
        let params = AttachParams { container: Some(container), ..params() };
        let tells_end = self.tells_end().await?;
        run(self.client(), pod, command, &params, tells_end, streams).await
    }

    /// Whether a command may be told that there is no more input: before Kubernetes 1.30 that would end the connection, and with
    /// it the command's output.
    async fn tells_end(&self) -> Result<bool, RemoteError> {
        let version = send(self.client(), Method::Get, "/version", None).await;
        let version = version.map_err(RemoteError::request("asking for the API server's version"))?;
        let minor = version["minor"].as_str().unwrap_or_default();
        let digits = minor.trim_end_matches(|rest: char| !rest.is_ascii_digit());
        Ok(digits.parse::<u64>().is_ok_and(|minor| minor >= TELLS_END))
    }
}

fn params() -> AttachParams {
    AttachParams {
        stdin: true,
        stdout: true,
        stderr: true,
        max_stdin_buf_size: Some(BUFFER),
        max_stdout_buf_size: Some(BUFFER),
        max_stderr_buf_size: Some(BUFFER),
        ..AttachParams::default()
    }
}

fn container_of(pod: &PodView, wanted: Option<&str>) -> Result<String, RemoteError> {
    let names = || pod.containers().filter_map(|container| container["name"].as_str());
    let missing = |what: String| {
        let all = names().collect::<Vec<_>>().join(", ");
        RemoteError::Finding(format!("{}/{} has no {what}; it has {all}", pod.namespace(), pod.name()))
    };
    match wanted {
        Some(name) if names().any(|one| one == name) => Ok(name.to_owned()),
        Some(name) => Err(missing(format!("container `{name}`"))),
        None => pod.default_containers().into_iter().next().ok_or_else(|| missing("container".to_owned())),
    }
}

async fn run<I, O, E>(
    client: &Client,
    pod: &PodView,
    command: &[String],
    params: &AttachParams,
    tells_end: bool,
    streams: Streams<I, O, E>,
) -> Result<i32, RemoteError>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
    E: AsyncWrite + Unpin,
{
    let Streams { mut input, mut output, mut errors } = streams;
    let name = format!("{}/{}", pod.namespace(), pod.name());
    let broken = |reason: &str| RemoteError::Finding(format!("{name}: {reason}"));
    let pods: Api<Pod> = Api::namespaced(client.clone(), pod.namespace());
    let begun = timeout(DEADLINE, pods.exec(pod.name(), command, params)).await;
    let begun = begun.map_err(|_| broken("the API server does not begin the command in time"))?;
    let mut process = begun.map_err(|error| refused(&name, error))?;
    let asked = "all streams were asked for";
    let mut stdin = process.stdin().expect(asked);
    let (mut stdout, mut stderr) = (process.stdout().expect(asked), process.stderr().expect(asked));
    let status = process.take_status().expect("nobody has taken it yet");
    let feed = pin!(async {
        // A command need not read what it is given, and its end is told by its status.
        let _ = copy(&mut input, &mut stdin).await;
        if tells_end {
            let _ = stdin.shutdown().await;
        }
        pending::<Infallible>().await
    });
    let ended = async { status.await.ok_or_else(|| broken("the connection ended before the command")) };
    let show = async {
        let written = copy(&mut stdout, &mut output).await.and(output.flush().await);
        written.map_err(|error| broken(&format!("writing what the command says: {error}")))
    };
    let warn = async {
        let written = copy(&mut stderr, &mut errors).await.and(errors.flush().await);
        written.map_err(|error| broken(&format!("writing what the command says: {error}")))
    };
    let status = tokio::select! {
        ended = try_join3(ended, show, warn) => ended?.0,
        never = feed => match never {},
    };
    exit_code(&status).ok_or_else(|| broken(status.message.as_deref().unwrap_or("the command was not run")))
}

fn refused(name: &str, error: kube::Error) -> RemoteError {
    let hint = match &error {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            match status.as_u16() {
                401 | 403 => "you need the right to create pods/exec in its namespace",
                404 => "it is gone",
                _ => "does the container run?",
            }
        }
        _ => return RemoteError::Request(format!("a command in {name}"), error.into()),
    };
    RemoteError::Finding(format!("a command in {name}: {}; {hint}", told(&error)))
}

/// As the kubelet tells it; none if the command was not run.
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref().and_then(|details| details.causes.as_ref())?;
    let code = causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?;
    code.message.as_ref()?.parse().ok()
}

#[cfg(test)]
mod tests;
