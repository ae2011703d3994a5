//! The mesh configuration: key `mesh` of ConfigMap `istio` in the root namespace.

use crate::api::core::ConfigMap;
use crate::api::reader::read;
use crate::api::{Item, Key, Kind, MeshConfig, Object, conflicting_alternatives, out_of_range};
use crate::problem::Problem;
use crate::source::file::parse_yaml;

/// Where mesh-wide objects live.
const ROOT_NAMESPACE: &str = "istio-system";

/// The ConfigMap that holds the configuration.
pub(super) fn key() -> Key {
    Key::new(Kind::ConfigMap, ROOT_NAMESPACE, "istio")
}

/// The configuration in force, and what is wrong with the one that was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) config: MeshConfig,
    pub(super) problems: Vec<Problem>,
}

impl Settings {
    /// Reads the configuration anew; what cannot be read leaves the last good one in force. Says whether it changed.
    pub(super) fn update(&mut self, object: Option<&Object>) -> bool {
        let text = object.and_then(Item::<'_, ConfigMap>::of).and_then(|map| map.spec.data.get("mesh"));
        let blame = |problem: Problem| match object {
            Some(object) => object.blame(problem),
            None => problem,
        };
        match text.map_or_else(|| Ok(Default::default()), |text| parse(text)) {
            Ok((config, warnings)) => {
                self.problems = warnings.into_iter().map(blame).collect();
                std::mem::replace(&mut self.config, config) != self.config
            }
            Err(problem) => {
                self.problems = vec![blame(problem)];
                false
            }
        }
    }
}

fn parse(text: &str) -> Result<(MeshConfig, Vec<Problem>), Problem> {
    let value = parse_yaml(text).map_err(|invalid| Problem::error("data.mesh", invalid.message))?;
    if value.is_null() {
        return Ok((MeshConfig::default(), Vec::new()));
    }
    if let Some((field, message)) = conflicting_alternatives(Kind::ConfigMap, &value, "data.mesh") {
        return Err(Problem::error(field, message));
    }
    let read = read::<MeshConfig>(&value, "data.mesh")
        .map_err(|error| Problem { fix: error.fix, ..Problem::error(error.field, error.message) })?;
    let unknown = read.unknown.into_iter().map(|field| Problem::warning(field, "unknown field"));
    let ranges = out_of_range(Kind::ConfigMap, &value, "data.mesh").into_iter();
    let ranges = ranges.map(|(field, message)| Problem::warning(field, message));
    Ok((read.value, unknown.chain(ranges).collect()))
}
