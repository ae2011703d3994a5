//! The answer: what each proxy on the way does with the request, in order, and what becomes of it.

use mesh_control::world::World;
use mesh_core::decide::{Answer, Note, NoteKind};
use mesh_core::model::Origin;
use owo_colors::OwoColorize as _;
use serde::Serialize;

use crate::output::Output;

/// Its JSON is the output of `mesh explain --output json`.
#[derive(Debug, Serialize)]
pub(in crate::cmd) struct Report {
    /// Of this JSON.
    pub(in crate::cmd) version: u8,
    pub(in crate::cmd) request: String,
    pub(in crate::cmd) steps: Vec<Step>,
    pub(in crate::cmd) outcome: Outcome,
}

/// One thing that a proxy does, and why.
#[derive(Debug, Serialize)]
pub(in crate::cmd) struct Step {
    /// Whose step it is, `namespace/pod`.
    pub(in crate::cmd) pod: String,
    pub(in crate::cmd) topic: Topic,
    pub(in crate::cmd) text: String,
    /// The user's object that made it so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cmd) origin: Option<Origin>,
    /// Where that was written, `file:line`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cmd) place: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cmd) details: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cmd) enum Topic {
    Listener,
    Host,
    Skipped,
    Rule,
    Fault,
    Action,
    Cluster,
    Endpoints,
    Inbound,
    Policy,
    DryRun,
    Answer,
}

/// What becomes of the request.
#[derive(Debug, Serialize)]
pub(in crate::cmd) struct Outcome {
    pub(in crate::cmd) result: Fate,
    pub(in crate::cmd) text: String,
    /// The status that a proxy answers with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cmd) status: Option<u16>,
    /// Its response flag, as access logs show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cmd) flag: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cmd) enum Fate {
    /// An application gets it.
    Served,
    /// A proxy answers by itself.
    Answered,
    /// The connection is closed.
    Refused,
    /// It leaves the mesh.
    PassedThrough,
}

impl Outcome {
    pub(in crate::cmd) fn new(result: Fate, text: impl Into<String>) -> Self {
        Self { result, text: text.into(), status: None, flag: None }
    }

    /// What the proxy of `pod` answers, with the policy that denies where one does.
    pub(in crate::cmd) fn answered(pod: &str, answer: &Answer) -> Self {
        let (flag, details) = (answer.reason.flag(), answer.reason.details());
        let why = answer.denial.as_ref().map_or_else(|| details.to_owned(), ToString::to_string);
        let text = format!("the proxy of {pod} answers {} ({flag}, {why})", answer.status);
        Self { result: Fate::Answered, text, status: Some(answer.status), flag: Some(flag) }
    }
}

impl Step {
    pub(in crate::cmd) fn new(pod: &str, topic: Topic, text: impl Into<String>) -> Self {
        Self { pod: pod.to_owned(), topic, text: text.into(), origin: None, place: None, details: Vec::new() }
    }

    /// A reason that `decide` gave.
    pub(in crate::cmd) fn from_note(pod: &str, note: &Note, world: &World) -> Self {
        let topic = match note.kind {
            NoteKind::Lookup => Topic::Host,
            NoteKind::Skipped => Topic::Skipped,
            NoteKind::Matched => Topic::Rule,
            NoteKind::Backend => Topic::Action,
            NoteKind::Policy => Topic::Policy,
            NoteKind::DryRun => Topic::DryRun,
            NoteKind::Fault => Topic::Fault,
            NoteKind::Answer => Topic::Answer,
        };
        // Most routes have no name.
        let text = note.text.replacen("route \"\"", "the route", 1);
        Self::new(pod, topic, text).by(note.origin.as_ref(), world)
    }

    /// Names the object that made it so, and where it was written.
    pub(in crate::cmd) fn by(mut self, origin: Option<&Origin>, world: &World) -> Self {
        self.place = origin.and_then(|origin| place(world, origin));
        self.origin = origin.cloned();
        self
    }

    pub(in crate::cmd) fn with(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

fn place(world: &World, origin: &Origin) -> Option<String> {
    let object = world.objects().find(|object| {
        object.key.kind.as_str() == origin.kind
            && *object.key.namespace == *origin.namespace
            && *object.key.name == *origin.name
    })?;
    let file = object.origin.file.as_ref()?;
    Some(format!("{}:{}", file.display(), object.origin.line_of(&origin.field)?))
}

impl Report {
    /// The steps in words, without colours.
    pub(in crate::cmd) fn trail(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Step { pod, topic, text, origin, place, details } in &self.steps {
            let by = origin.as_ref().map_or_else(String::new, |origin| {
                let place = place.as_ref().map_or_else(String::new, |place| format!(" at {place}"));
                format!(", by {origin}{place}")
            });
            lines.push(format!("{pod}: {}: {text}{by}", topic.word()));
            lines.extend(details.iter().map(|detail| format!("  {detail}")));
        }
        lines.push(self.outcome.text.clone());
        lines
    }

    /// Prints the steps for people.
    pub(in crate::cmd) fn show(&self, output: &Output) {
        output.heading(&self.request);
        let mut pod = "";
        for (number, step) in (1..).zip(&self.steps) {
            if pod != step.pod {
                pod = &step.pod;
                output.line(format!("at {pod}").dimmed());
            }
            let topic = format!("{:<10}", step.topic.word());
            output.line(format!("{number:>3}. {} {}", topic.bold(), step.text));
            if let Some(origin) = &step.origin {
                let place = step.place.as_ref().map_or_else(String::new, |place| format!(" ({place})"));
                output.line(format!("{:16}{}", "", format!("by {origin}{place}").dimmed()));
            }
            step.details.iter().for_each(|detail| output.line(format!("{:16}{detail}", "")));
        }
        let served = matches!(self.outcome.result, Fate::Served | Fate::PassedThrough);
        let mark = if served { "✔".green().to_string() } else { "✘".red().to_string() };
        output.line(format!("{mark} {}", self.outcome.text));
    }
}

impl Topic {
    const fn word(self) -> &'static str {
        match self {
            Self::Listener => "listener",
            Self::Host => "host",
            Self::Skipped => "skipped",
            Self::Rule => "rule",
            Self::Fault => "fault",
            Self::Action => "action",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Inbound => "inbound",
            Self::Policy => "policy",
            Self::DryRun => "dry run",
            Self::Answer => "answer",
        }
    }
}
