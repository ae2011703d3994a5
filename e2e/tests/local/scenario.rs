//! Scenarios: what must hold, and the one resource that makes it hold.

use crate::fixture::manifest;
use crate::mesh::Mesh;

/// One scenario. All references are to manifests (see `fixture`).
#[derive(Clone)]
pub(crate) struct Scenario {
    /// Rows of the requirements it shows, and what it is about.
    pub(crate) name: &'static str,
    /// Applied in both runs.
    pub(crate) given: &'static [&'static str],
    pub(crate) key: Key,
    pub(crate) then: fn(&Given<'_>) -> anyhow::Result<()>,
}

/// The resource without which a scenario must fail.
#[derive(Clone)]
pub(crate) enum Key {
    /// A manifest.
    Manifest(&'static str),
    /// A manifest that the scenario itself applies in its midst, with `Given::apply_key`.
    Midway(&'static str),
    /// A manifest, in place of which another is applied.
    Instead { with: &'static str, without: &'static str },
}

impl Scenario {
    /// All manifests it names.
    pub(crate) fn references(&self) -> Vec<&'static str> {
        let key = match self.key {
            Key::Manifest(reference) | Key::Midway(reference) => vec![reference],
            Key::Instead { with, without } => vec![with, without],
        };
        [self.given, &key].concat()
    }
}

/// What a scenario has at hand.
pub(crate) struct Given<'a> {
    pub(crate) mesh: &'a Mesh,
    /// The text of the key resource; none in the run without it.
    key: Option<String>,
}

impl Given<'_> {
    /// Applies the key resource now, in the run that has it.
    pub(crate) fn apply_key(&self) {
        if let Some(key) = &self.key {
            self.mesh.apply_text(key);
        }
    }

    /// The same with something in it that is known only now.
    pub(crate) fn apply_key_with(&self, place: &str, value: &str) {
        if let Some(key) = &self.key {
            self.mesh.apply_text(&key.replace(place, value));
        }
    }
}

/// Runs every scenario with and without its key resource, and reports all that went wrong together.
///
/// `MESH_SCENARIO` limits the run to scenarios whose name contains it.
pub(crate) fn run(mesh: &Mesh, scenarios: &[&[Scenario]]) {
    let only = std::env::var("MESH_SCENARIO").unwrap_or_default();
    let chosen = scenarios.iter().copied().flatten().filter(|scenario| scenario.name.contains(&only));
    let problems: Vec<_> = chosen.filter_map(|scenario| run_both(mesh, scenario).err()).collect();
    assert!(problems.is_empty(), "{} scenarios failed:\n{}", problems.len(), problems.join("\n"));
}

fn run_both(mesh: &Mesh, scenario: &Scenario) -> Result<(), String> {
    report(&format!("{}, with its key resource", scenario.name));
    run_one(mesh, scenario, true).map_err(|error| format!("{}: {error:?}", scenario.name))?;
    report(&format!("{}, without", scenario.name));
    match mesh.impatiently(|| run_one(mesh, scenario, false)) {
        Ok(()) => Err(format!("{}: passes without its key resource, so it shows nothing", scenario.name)),
        Err(_) => Ok(()),
    }
}

fn run_one(mesh: &Mesh, scenario: &Scenario, with_key: bool) -> anyhow::Result<()> {
    let base = scenario.given.iter().map(|reference| manifest(reference));
    let applied: Vec<_> = base.chain(scenario.key.before(with_key)).collect();
    if !applied.is_empty() {
        mesh.apply_text(&applied.join("\n---\n"));
    }
    let key = with_key.then(|| scenario.key.text());
    let given = Given { mesh, key };
    let result = (scenario.then)(&given);
    let leftovers: Vec<_> =
        applied.into_iter().chain(given.key.filter(|_| scenario.key.is_midway())).collect();
    if !leftovers.is_empty() {
        mesh.delete_text(&leftovers.join("\n---\n"));
    }
    result
}

impl Key {
    fn text(&self) -> String {
        match self {
            Self::Manifest(reference) | Self::Midway(reference) | Self::Instead { with: reference, .. } => {
                manifest(reference)
            }
        }
    }

    /// What is applied for it before the scenario starts.
    fn before(&self, with_key: bool) -> Option<String> {
        match self {
            Self::Instead { without, .. } if !with_key => Some(manifest(without)),
            Self::Midway(_) => None,
            _ => with_key.then(|| self.text()),
        }
    }

    fn is_midway(&self) -> bool {
        matches!(self, Self::Midway(_))
    }
}

/// Says on the spot what is being run: a long test should not be silent.
pub(crate) fn report(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "  {what}");
}
