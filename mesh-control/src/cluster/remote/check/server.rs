//! The API server, and what its caller may do.

use serde_json::Value;

use super::Check;
use crate::cluster::remote::objects::read_rights;
use crate::cluster::remote::rights::Right;
use crate::cluster::remote::{Remote, RemoteError};
use crate::cluster::request::{Method, send};

const SUBJECT: &str = "API server";
/// Init containers with `restartPolicy: Always` are on by default from here.
const NATIVE_SIDECARS: u64 = 29;
/// The oldest minor version with everything that the manifests name.
const OLDEST: u64 = 25;

pub(super) async fn version(remote: &Remote) -> Result<Check, RemoteError> {
    let answer = send(remote.client(), Method::Get, "/version", None).await;
    Ok(judge(&answer.map_err(RemoteError::request("asking for the API server's version"))?))
}

fn judge(answer: &Value) -> Check {
    let version = answer["gitVersion"].as_str().unwrap_or("of no known version");
    let minor = answer["minor"].as_str().unwrap_or_default();
    let minor: u64 = minor.trim_end_matches(|rest: char| !rest.is_ascii_digit()).parse().unwrap_or_default();
    if minor < OLDEST {
        return Check::error(SUBJECT, format!("{version} is too old"))
            .fix("use Kubernetes 1.29 or newer, or 1.25 with plain sidecars");
    }
    if minor < NATIVE_SIDECARS {
        return Check::warning(
            SUBJECT,
            format!("{version} has no native sidecars: Jobs with a proxy do not end by themselves"),
        )
        .fix("mesh install --apply --set proxy.native=false");
    }
    Check::ok(SUBJECT, version)
}

/// What the commands need. A caller without some of it can still use the others.
pub(super) async fn rights(remote: &Remote) -> Result<Check, RemoteError> {
    let right = |verb: &'static str, resource: &str| Right {
        verb,
        group: String::new(),
        resource: resource.to_owned(),
        namespace: None,
    };
    let mut needed = read_rights();
    needed.extend([right("create", "pods/portforward"), right("get", "pods/log"), right("get", "pods")]);
    let missing = remote.missing(&needed).await?;
    Ok(judge_rights(&missing))
}

fn judge_rights(missing: &[Right]) -> Check {
    if missing.is_empty() {
        return Check::ok("your rights", "you may read all that the mesh reads, and ask its proxies");
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let message = format!("you may not {}", super::few(names.iter().map(String::as_str)));
    Check::warning("your rights", message)
        .fix("status, config, explain and lint need them; ask whoever runs the cluster")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::remote::check::Level;
    use serde_json::json;

    #[test]
    fn versions_are_judged_by_what_they_lack() {
        let level =
            |minor: &str| judge(&json!({"gitVersion": format!("v1.{minor}.0"), "minor": minor})).level;
        assert_eq!(
            ["36", "29+", "28", "24"].map(level),
            [Level::Ok, Level::Ok, Level::Warning, Level::Error]
        );
    }
}
