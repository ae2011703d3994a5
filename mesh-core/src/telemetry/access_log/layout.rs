//! What a line looks like: a format, made ready when a log is opened.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::command::{Escape, is_number, write};
use super::json;
use crate::model::template::Piece;
use crate::model::{AccessLogFormat, Command, Label, Template};
use crate::telemetry::record::Record;

/// Istio's default format, `pilot/pkg/model/telemetry_logging.go`.
const DEFAULT_TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// How a log's lines are made.
pub(super) enum Layout {
    Text(Text),
    DefaultJson,
    Json(Value),
}

impl Layout {
    pub(super) fn new(format: &AccessLogFormat) -> Self {
        match format {
            AccessLogFormat::Text(None) => Self::Text(Text::new(&Template::read(DEFAULT_TEXT).0).line()),
            AccessLogFormat::Text(Some(template)) => Self::Text(Text::new(template).line()),
            AccessLogFormat::Json => Self::DefaultJson,
            AccessLogFormat::Labels(labels) => Self::Json(Value::object(labels)),
        }
    }

    /// Appends a record's line.
    pub(super) fn write(&self, out: &mut String, record: &Record) -> fmt::Result {
        match self {
            Self::Text(text) => text.write(out, record, Escape::Text),
            Self::DefaultJson => json::write_default(out, record),
            Self::Json(value) => {
                value.write(out, record)?;
                out.write_char('\n')
            }
        }
    }
}

/// A template whose environment has been filled in.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Text(Vec<Piece>);

impl Text {
    pub(in crate::telemetry) fn new(template: &Template) -> Self {
        let fill = |piece: &Piece| match piece {
            Piece::Command(Command::Environment(name), _) => {
                Piece::Text(std::env::var(&**name).unwrap_or_else(|_| "-".to_owned()))
            }
            other => other.clone(),
        };
        Self(template.pieces().iter().map(fill).collect())
    }

    /// Ends with the end of a line.
    fn line(mut self) -> Self {
        let ended = matches!(self.0.last(), Some(Piece::Text(text)) if text.ends_with('\n'));
        if !ended {
            self.0.push(Piece::Text("\n".to_owned()));
        }
        self
    }

    /// Appends the text; what is missing is `-`.
    pub(in crate::telemetry) fn write(
        &self,
        out: &mut String,
        record: &Record,
        escape: Escape,
    ) -> fmt::Result {
        for piece in &self.0 {
            match piece {
                // In a text log what stands between commands is the user's own.
                Piece::Text(text) if escape == Escape::Json => json::write_escaped(out, text.as_bytes())?,
                Piece::Text(text) => out.push_str(text),
                Piece::Command(command, None) => {
                    if !write(out, command, record, escape)? {
                        out.push('-');
                    }
                }
                Piece::Command(command, Some(most)) => write_cut(out, command, *most, record, escape)?,
            }
        }
        Ok(())
    }

    /// As plain text.
    pub(in crate::telemetry) fn plain(&self, record: &Record) -> String {
        let mut out = String::new();
        let written = self.write(&mut out, record, Escape::Nothing);
        debug_assert!(written.is_ok(), "a String takes everything");
        out
    }
}

/// Cut before it is escaped, so that no escape is cut.
fn write_cut(
    out: &mut String,
    command: &Command,
    most: usize,
    record: &Record,
    escape: Escape,
) -> fmt::Result {
    let mut value = String::new();
    if !write(&mut value, command, record, Escape::Nothing)? {
        value.push('-');
    }
    escape.write(out, &value.as_bytes()[..value.floor_char_boundary(most)])
}

/// A value in a JSON line.
pub(super) enum Value {
    /// One command and nothing else: a number stays a number, what is missing is `null`.
    One(Command),
    Text(Text),
    Object(Vec<(String, Self)>),
    List(Vec<Self>),
}

impl Value {
    fn new(label: &Label) -> Self {
        match label {
            Label::Text(template) => {
                let text = Text::new(template);
                match &text.0[..] {
                    [Piece::Command(command, None)] => Self::One(command.clone()),
                    _ => Self::Text(text),
                }
            }
            Label::Object(labels) => Self::object(labels),
            Label::List(labels) => Self::List(labels.iter().map(Self::new).collect()),
        }
    }

    /// Keys are escaped once.
    fn object(labels: &BTreeMap<String, Label>) -> Self {
        let key = |key: &String| {
            let mut escaped = String::new();
            let written = json::write_escaped(&mut escaped, key.as_bytes());
            debug_assert!(written.is_ok(), "a String takes everything");
            escaped
        };
        Self::Object(labels.iter().map(|(name, label)| (key(name), Self::new(label))).collect())
    }

    fn write(&self, out: &mut String, record: &Record) -> fmt::Result {
        match self {
            Self::One(command) => write_one(out, command, record),
            Self::Text(text) => {
                out.push('"');
                text.write(out, record, Escape::Json)?;
                out.write_char('"')
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    let separator = if at == 0 { "" } else { "," };
                    write!(out, "{separator}\"{name}\":")?;
                    value.write(out, record)?;
                }
                out.write_char('}')
            }
            Self::List(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { "," });
                    value.write(out, record)?;
                }
                out.write_char(']')
            }
        }
    }
}

fn write_one(out: &mut String, command: &Command, record: &Record) -> fmt::Result {
    let start = out.len();
    if is_number(command) {
        if !write(out, command, record, Escape::Json)? {
            out.push_str("null");
        }
        return Ok(());
    }
    out.push('"');
    if write(out, command, record, Escape::Json)? {
        return out.write_char('"');
    }
    out.truncate(start);
    out.write_str("null")
}
