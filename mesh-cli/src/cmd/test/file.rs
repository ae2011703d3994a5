//! What a file of tests says. Unknown fields are refused, with their line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use mesh_control::api::Duration;
use mesh_control::source::{Strict, read_strictly};
use serde::Deserialize;

use crate::cmd::Failure;

/// A file of tests.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    /// Files and folders with objects, relative to this file.
    pub(super) manifests: Vec<PathBuf>,
    pub(super) tests: Vec<Case>,
}

/// One request and what must become of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Case {
    pub(super) name: String,
    /// `NAMESPACE/WORKLOAD`; a client outside the mesh, through the ingress gateway, when absent.
    pub(super) from: Option<String>,
    pub(super) request: Request,
    pub(super) replies: Replies,
    pub(super) expect: Expect,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Request {
    /// GET when absent.
    pub(super) method: String,
    pub(super) url: String,
    pub(super) headers: BTreeMap<String, String>,
    /// Of a client outside the mesh.
    pub(super) client_address: Option<IpAddr>,
}

impl Default for Request {
    fn default() -> Self {
        let (method, url) = ("GET".to_owned(), String::new());
        Self { method, url, headers: BTreeMap::new(), client_address: None }
    }
}

/// What happens outside of the decisions that are tested.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Replies {
    /// Whether a fault that some requests get is injected into this one.
    pub(super) faults: Faults,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Faults {
    #[default]
    Spared,
    Injected,
}

/// What is expected; what is not named may be anything.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Expect {
    pub(super) result: Option<Fate>,
    /// Of an answer that a proxy gives itself.
    pub(super) status: Option<u16>,
    pub(super) flag: Option<String>,
    /// `[NAMESPACE/]NAME` of an AuthorizationPolicy, or `none` where the caller is denied because nothing allows it.
    pub(super) denied_by: Option<String>,
    pub(super) route: Option<String>,
    /// The only destination.
    pub(super) destination: Option<Destination>,
    /// All destinations with their weights.
    pub(super) destinations: Vec<WeightedDestination>,
    /// `[NAMESPACE/]WORKLOAD` of the only destination.
    pub(super) workload: Option<String>,
    pub(super) mutual_tls: Option<bool>,
    /// Of the request as it is sent on.
    pub(super) path: Option<String>,
    pub(super) authority: Option<String>,
    pub(super) request_headers: Headers,
    pub(super) response_headers: Headers,
    /// `0s` is none.
    pub(super) timeout: Option<Duration>,
    pub(super) retries: Option<Retries>,
    pub(super) mirrors: Option<Vec<Mirror>>,
    pub(super) redirect: Option<String>,
    pub(super) body: Option<String>,
    pub(super) fault: Option<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Fate {
    Served,
    Answered,
    Refused,
    PassedThrough,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Destination {
    /// Short names are of the caller's namespace.
    pub(super) host: String,
    pub(super) subset: Option<String>,
    pub(super) port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct WeightedDestination {
    pub(super) host: String,
    pub(super) subset: Option<String>,
    pub(super) port: Option<u16>,
    /// Relative to the sum of all.
    pub(super) weight: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Headers {
    /// Present, with this value.
    pub(super) set: BTreeMap<String, String>,
    pub(super) absent: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Retries {
    pub(super) attempts: Option<u32>,
    /// `0s` is none.
    pub(super) per_try_timeout: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mirror {
    pub(super) host: String,
    pub(super) subset: Option<String>,
    pub(super) port: Option<u16>,
    /// 100 when absent.
    pub(super) percentage: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Fault {
    pub(super) delay: Option<Duration>,
    pub(super) delay_percentage: Option<f64>,
    /// The HTTP status.
    pub(super) abort: Option<u16>,
    pub(super) abort_percentage: Option<f64>,
}

/// Reads a file of tests; whatever is wrong with it is wrong usage.
pub(super) fn read(path: &Path) -> Result<Strict<File>, Failure> {
    let refuse = |message: String| Failure::Usage(format!("{}: {message}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    parse(path, &text).map_err(Failure::Usage)
}

/// All that is wrong, a line each.
pub(super) fn parse(path: &Path, text: &str) -> Result<Strict<File>, String> {
    let file = read_strictly::<File>(path, text)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let refuse = |field: &str, message: &str| {
        let line = file.origin.line_of(field).unwrap_or(1);
        Err(format!("{}:{line}: {field}: {message}", path.display()))
    };
    if file.value.tests.is_empty() {
        return refuse("tests", "missing; a file of tests has at least one");
    }
    for (at, case) in file.value.tests.iter().enumerate() {
        if case.request.url.is_empty() {
            return refuse(&format!("tests[{at}].request.url"), "missing; write http://HOST[:PORT]/PATH");
        }
        if case.expect == Expect::default() {
            return refuse(
                &format!("tests[{at}].expect"),
                "missing; a test that expects nothing shows nothing",
            );
        }
        if case.expect.destination.is_some() && !case.expect.destinations.is_empty() {
            return refuse(
                &format!("tests[{at}].expect"),
                "only one of destination, destinations may be set",
            );
        }
    }
    Ok(file)
}

impl File {
    /// The manifests, seen from where the command runs.
    pub(super) fn manifests_from(&self, file: &Path) -> Vec<PathBuf> {
        let folder = file.parent().unwrap_or_else(|| Path::new(""));
        self.manifests.iter().map(|path| folder.join(path)).collect()
    }
}
