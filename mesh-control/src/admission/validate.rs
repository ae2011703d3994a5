//! The checks of one object: those of reading it, and those of translating it in a world of its own.

use std::path::Path;

use serde_json::Value;

use crate::problem::{Problem, Severity};
use crate::source::{Change, files};
use crate::view::View;
use crate::world::World;

/// Fields that name another object, which may come later.
const REFERENCES: &[&str] = &[
    "subset",
    "delegate",
    "provider.name",
    "credentialName",
    "credentialNames",
    "caCertCredentialName",
    "secretName",
    "targetRef",
    "targetRefs",
];

/// What is wrong with an object.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn check(object: &Value) -> Verdict {
    let loaded = files::load_text(Path::new("object"), &object.to_string());
    let read = loaded.problems.clone();
    let mut world = World::default();
    world.apply(Change::from(loaded));
    let view = View::new(world, 1);
    let mut verdict = Verdict::default();
    for problem in &read {
        match problem.severity {
            Severity::Error => verdict.errors.push(tell(problem)),
            Severity::Warning => verdict.warnings.push(tell(problem)),
            Severity::Info => {}
        }
    }
    // Warnings of translation are mostly that nothing else is there.
    let meaningless =
        |problem: &&Problem| problem.severity == Severity::Error && !is_reference(&problem.field);
    for problem in view.problems().iter().filter(meaningless) {
        let text = tell(problem);
        if !verdict.errors.contains(&text) {
            verdict.errors.push(text);
        }
    }
    verdict
}

fn is_reference(field: &str) -> bool {
    REFERENCES.iter().any(|name| {
        field.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            || field.contains(&format!(".{name}["))
    })
}

/// As the lint says it, without file and object, which the client knows.
fn tell(problem: &Problem) -> String {
    Problem { file: None, line: None, object: None, ..problem.clone() }.to_string()
}
