//! What is wrong with what users wrote: one line each, with the place and the way out.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::api::Key;

/// How bad a [`Problem`] is. Ordered from worst to mildest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The object, or the part named, has no effect.
    Error,
    /// It has an effect, but perhaps not the one meant.
    Warning,
    /// Worth knowing.
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// The object a problem is about; also for kinds we do not read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct ObjectRef {
    pub kind: String,
    /// Empty for kinds that have no namespace.
    pub namespace: String,
    pub name: String,
}

impl From<&Key> for ObjectRef {
    fn from(key: &Key) -> Self {
        Self {
            kind: key.kind.as_str().to_owned(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        if namespace.is_empty() { write!(f, "{kind} {name}") } else { write!(f, "{kind} {namespace}/{name}") }
    }
}

/// One thing that is wrong, or worth knowing, about an object.
///
/// Displays as one line, `file:line: kind namespace/name: field: message (fix: …)`, without what is not known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// None when not even the object could be made out.
    pub object: Option<Box<ObjectRef>>,
    pub file: Option<Arc<PathBuf>>,
    /// From 1.
    pub line: Option<u32>,
    /// Path of the field, `spec.http[0].timeout`; empty for the whole object.
    pub field: String,
    /// Lower case; names the thing and what is allowed.
    pub message: String,
    /// What to write instead.
    pub fix: Option<String>,
    /// The same for a machine, where it is mechanical; `mesh lint --fix` makes it.
    #[serde(skip)]
    pub edit: Option<Box<Edit>>,
}

/// A change of the line that a problem names, which changes nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edit {
    /// The last name of the problem's field becomes this.
    Rename(&'static str),
    /// `NAME: VALUE` becomes `NEW: {value: VALUE}`.
    Wrap(&'static str),
    /// This line joins the item of a list that begins on the problem's line.
    Join(&'static str),
    /// `port: {number: …}`, the only one of this service, comes under the `service:` on the problem's line.
    OnlyPortOf(String),
    /// The value of the field becomes this.
    Replace(&'static str),
}

impl Problem {
    /// A problem that does not say where it is yet.
    pub fn new(severity: Severity, field: impl Into<String>, message: impl Into<String>) -> Self {
        let (field, message) = (field.into(), message.into());
        Self { severity, object: None, file: None, line: None, field, message, fix: None, edit: None }
    }

    /// The part named has no effect.
    pub fn error(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, field, message)
    }

    /// The same with the edit that mends it.
    #[must_use]
    pub fn with_edit(self, edit: Edit) -> Self {
        Self { edit: Some(Box::new(edit)), ..self }
    }

    /// Perhaps not what was meant.
    pub fn warning(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, field, message)
    }

    /// Worth knowing.
    pub fn info(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Severity::Info, field, message)
    }

    /// Says what to write instead.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Says which object it is about.
    #[must_use]
    pub fn about(mut self, object: impl Into<ObjectRef>) -> Self {
        self.object = Some(Box::new(object.into()));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.fix {
            Some(fix) => write!(f, " (fix: {fix})"),
            None => Ok(()),
        }
    }
}

/// Problems told of one object.
const MOST_OF_ONE_OBJECT: usize = 50;

/// The worst problems of one object, and how many there are beside.
///
/// Finding a problem's line reads the object's text: one object with thousands of them would keep the control plane from
/// everybody else's.
pub fn worst(mut problems: Vec<Problem>) -> Vec<Problem> {
    let more = problems.len().saturating_sub(MOST_OF_ONE_OBJECT);
    if more > 0 {
        problems.sort_by_key(|problem| problem.severity);
        let mildest = problems.last().map_or(Severity::Warning, |problem| problem.severity);
        problems.truncate(MOST_OF_ONE_OBJECT);
        let message = format!("{more} more problems of this object are not told; mend the others first");
        problems.push(Problem { severity: mildest, ..Problem::warning("", message) });
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Kind;

    #[test]
    fn a_problem_is_one_line_of_what_is_known() {
        let mut problem = Problem::error("spec.http[0].timeout", "\"5\" is not a duration")
            .about(&Key::new(Kind::VirtualService, "default", "ratings"))
            .with_fix("write 5s");
        assert_eq!(
            problem.to_string(),
            "VirtualService default/ratings: spec.http[0].timeout: \"5\" is not a duration (fix: write 5s)"
        );
        problem.file = Some(Arc::new("a.yaml".into()));
        problem.line = Some(7);
        assert!(problem.to_string().starts_with("a.yaml:7: VirtualService default/ratings: "));
        assert_eq!(Problem::info("", "empty").to_string(), "empty");
    }

    #[test]
    fn of_thousands_of_problems_the_worst_are_told_and_the_rest_counted() {
        let mut many: Vec<_> =
            (0..5000).map(|at| Problem::warning(format!("spec.http[{at}]"), "odd")).collect();
        many.push(Problem::error("spec.hosts", "missing"));
        let told = worst(many);
        assert_eq!(told.len(), MOST_OF_ONE_OBJECT + 1);
        assert_eq!(told[0].field, "spec.hosts");
        assert!(told.last().unwrap().message.starts_with("4951 more"), "{:?}", told.last());
        assert_eq!(worst(vec![Problem::info("", "empty")]).len(), 1);
    }
}
