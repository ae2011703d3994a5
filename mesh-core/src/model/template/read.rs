//! From text to pieces.

use super::Piece;
use super::command::Command;

/// A command that is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// As it is written, with its percent signs.
    pub command: String,
    /// Why.
    pub reason: String,
}

/// The pieces of a template, and what in it is not supported.
pub(super) fn pieces(text: &str) -> (Vec<Piece>, Vec<Unsupported>) {
    let (mut pieces, mut unsupported) = (Vec::new(), Vec::new());
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        plain.push_str(&rest[..start]);
        rest = &rest[start..];
        if let Some(after) = rest.strip_prefix("%%") {
            plain.push('%');
            rest = after;
            continue;
        }
        let Some(length) = length(rest) else {
            let reason = "no command; written as it is (%% is a percent sign)".to_owned();
            let command = rest.split_whitespace().next().unwrap_or(rest).to_owned();
            unsupported.push(Unsupported { command, reason });
            plain.push('%');
            rest = &rest[1..];
            continue;
        };
        let written = &rest[..length];
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        let (command, most) = command(&written[1..length - 1]);
        let command = command.unwrap_or_else(|reason| {
            unsupported.push(Unsupported { command: written.to_owned(), reason });
            Command::Missing
        });
        pieces.push(Piece::Command(command, most));
        rest = &rest[length..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    (pieces, unsupported)
}

/// How long the command is that the text begins with. An argument may hold percent signs itself.
fn length(text: &str) -> Option<usize> {
    let name = 1 + text[1..].find(|c: char| !c.is_ascii_uppercase() && c != '_' && !c.is_ascii_digit())?;
    if name == 1 {
        return None;
    }
    let ends = |at: usize| {
        let after = &text[at..];
        let most = after.strip_prefix(':').map(|most| most.trim_start_matches(|c: char| c.is_ascii_digit()));
        let rest = most.unwrap_or(after);
        rest.starts_with('%').then(|| text.len() - rest.len() + 1)
    };
    if !text[name..].starts_with('(') {
        return ends(name);
    }
    text[name..].match_indices(')').find_map(|(at, _)| ends(name + at + 1))
}

/// `NAME`, `NAME(ARGUMENT)`, and either with `:MOST`.
fn command(text: &str) -> (Result<Command, String>, Option<usize>) {
    let (text, most) = match text.rsplit_once(':') {
        Some((before, most)) if !most.is_empty() && most.bytes().all(|b| b.is_ascii_digit()) => {
            (before, most.parse().ok())
        }
        _ => (text, None),
    };
    let command = match text.split_once('(') {
        Some((name, argument)) => Command::named(name, Some(argument.strip_suffix(')').unwrap_or(argument))),
        None => Command::named(text, None),
    };
    (command, most)
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Part, Template, TimeFormat};
    use super::*;

    fn read(text: &str) -> Vec<Piece> {
        let (template, unsupported) = Template::read(text);
        assert_eq!(unsupported, []);
        template.pieces().to_vec()
    }

    #[test]
    fn text_and_commands_alternate() {
        assert_eq!(
            read("a %UPSTREAM_REMOTE_PORT% 100%% %REQ(X-A?:path):10%"),
            [
                Piece::Text("a ".into()),
                Piece::Command(Command::UpstreamAddress(Part::Port), None),
                Piece::Text(" 100% ".into()),
                Piece::Command(Command::RequestHeader("x-a".into(), Some(":path".into())), Some(10)),
            ]
        );
    }

    #[test]
    fn a_time_format_holds_percent_signs_itself() {
        let format = TimeFormat::Given("%Y/%m/%dT%H:%M:%S.%3f %z".into());
        assert_eq!(
            read("%START_TIME(%Y/%m/%dT%H:%M:%S.%3f %z)%!"),
            [Piece::Command(Command::StartTime(format), None), Piece::Text("!".into())]
        );
    }

    #[test]
    fn what_is_not_supported_is_told_and_not_silently_left_out() {
        for text in [
            "%DYNAMIC_METADATA(istio:x)%",
            "%NO_SUCH_THING%",
            "%RESPONSE_CODE",
            "%REQ(Authorization)%",
            "%RESP(a?SET-COOKIE)%",
            "%START_TIME(%Q)%",
            "%CEL(1 +)%",
        ] {
            let (_, unsupported) = Template::read(text);
            assert_eq!(unsupported.len(), 1, "{text}: {unsupported:?}");
            assert_eq!(unsupported[0].command, text);
        }
    }
}
