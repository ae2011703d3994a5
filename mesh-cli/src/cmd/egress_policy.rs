//! `mesh egress-policy`: NetworkPolicies that leave the egress gateway as the only way out, for `kubectl apply -f -`.
//!
//! No cluster is asked. They belong to whoever applies them: `mesh uninstall` leaves them where they are.

use std::collections::BTreeSet;
use std::process::ExitCode;

use mesh_control::cluster::way_out::{Opening, Reach, policies};

use super::Failure;
use crate::cli::EgressPolicy;
use crate::output::Output;

/// Runs the command.
pub(crate) fn run(flags: &EgressPolicy, output: &Output) -> anyhow::Result<ExitCode> {
    let networks: Result<Vec<Opening>, _> = flags.allow.iter().map(|text| text.parse()).collect();
    let networks = networks.map_err(|error| Failure::Usage(format!("--allow: {error}")))?;
    let once =
        |names: &[String]| names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    let reach = Reach { namespaces: once(&flags.to), networks };
    let policies =
        policies(&once(&flags.namespaces), &reach).map_err(|error| Failure::Usage(error.to_string()))?;
    if output.is_json() {
        output.json(&policies)?;
        return Ok(ExitCode::SUCCESS);
    }
    for policy in &policies {
        output.line(format!("---\n{}", serde_saphyr::to_string(policy)?.trim_end()));
    }
    Ok(ExitCode::SUCCESS)
}
