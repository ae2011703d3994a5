//! Finds the line of a field in YAML text, by indentation.
//!
//! For messages only: where the text is not block style (flow style, JSON, anchors) the answer is the line of the
//! nearest field around it, which is where a reader starts looking anyway.

/// A document's lines, for looking up several fields.
#[derive(Debug)]
pub struct Text<'t> {
    first_line: u32,
    lines: Vec<Line<'t>>,
}

impl<'t> Text<'t> {
    /// A document whose first line is `first_line`.
    pub fn new(text: &'t str, first_line: u32) -> Self {
        let lines = (first_line..).zip(text.lines()).filter_map(|(n, text)| Line::of(n, text)).collect();
        Self { first_line, lines }
    }

    /// The line of `field`.
    ///
    /// `field` is a path as problems name it: `spec.http[0].match[1].uri`, `metadata.annotations["a.b/c"]`.
    pub fn line_of(&self, field: &str) -> u32 {
        let mut region = Region { first: None, rest: &self.lines };
        let mut found = self.first_line;
        for step in steps(field) {
            let inner = match step {
                Step::Field(name) => region.field(name),
                Step::Index(index) => region.item(index),
            };
            let Some((line, inner)) = inner else { break };
            found = line;
            region = inner;
        }
        found
    }
}

#[derive(Debug, PartialEq)]
enum Step<'f> {
    Field(&'f str),
    Index(usize),
}

fn steps(field: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let Some((name, after)) = quoted.split_once("\"]") else { break };
            steps.push(Step::Field(name));
            rest = after;
        } else if let Some(index) = rest.strip_prefix('[') {
            let Some((index, after)) = index.split_once(']') else { break };
            let Ok(index) = index.parse() else { break };
            steps.push(Step::Index(index));
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(Step::Field(&rest[..end]));
            rest = &rest[end..];
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    steps
}

/// A line with something on it.
#[derive(Debug, Clone, Copy)]
struct Line<'t> {
    number: u32,
    indent: usize,
    content: &'t str,
}

impl<'t> Line<'t> {
    fn of(number: u32, text: &'t str) -> Option<Self> {
        let content = text.trim_start_matches(' ');
        let line = Self { number, indent: text.len() - content.len(), content: content.trim_end() };
        (!line.content.is_empty() && !line.content.starts_with('#')).then_some(line)
    }

    /// What follows the dash of a list item, as if the dash were indentation.
    fn after_dash(self) -> Option<Self> {
        let rest = self.content.strip_prefix('-')?;
        let content = rest.trim_start_matches(' ');
        if !rest.is_empty() && rest.len() == content.len() {
            return None; // `-1` or `--`, not an item
        }
        Some(Self { indent: self.indent + 1 + rest.len() - content.len(), content, ..self })
    }

    fn is_key(self, name: &str) -> bool {
        let bare = self.content.strip_prefix(name);
        let quoted = |q: char| self.content.strip_prefix(q)?.strip_prefix(name)?.strip_prefix(q);
        let after = bare.or_else(|| quoted('"')).or_else(|| quoted('\''));
        after.is_some_and(|rest| rest.starts_with(':'))
    }
}

/// Lines of a value. The first may be what follows a dash, and then differs from what is written.
#[derive(Clone, Copy)]
struct Region<'a, 't> {
    first: Option<Line<'t>>,
    rest: &'a [Line<'t>],
}

impl<'a, 't> Region<'a, 't> {
    /// Its lines, each with those after it.
    fn lines(self) -> impl Iterator<Item = (Line<'t>, &'a [Line<'t>])> {
        let rest = self.rest.iter().enumerate().map(move |(at, line)| (*line, &self.rest[at + 1..]));
        self.first.map(|first| (first, self.rest)).into_iter().chain(rest)
    }

    fn indent(self) -> Option<usize> {
        self.lines().next().map(|(line, _)| line.indent)
    }

    /// The line of a member and the lines of its value.
    fn field(self, name: &str) -> Option<(u32, Self)> {
        let indent = self.indent()?;
        let (line, after) = self.lines().find(|(line, _)| line.indent == indent && line.is_key(name))?;
        // A list may start in the column of its key.
        let belongs =
            |line: &&Line<'_>| line.indent > indent || (line.indent == indent && line.after_dash().is_some());
        let length = after.iter().take_while(belongs).count();
        Some((line.number, Self { first: None, rest: &after[..length] }))
    }

    /// The line of a list item and its lines, the first without its dash.
    fn item(self, index: usize) -> Option<(u32, Self)> {
        let indent = self.indent()?;
        let is_item = |line: &Line<'_>| line.indent == indent && line.after_dash().is_some();
        let (line, after) = self.lines().filter(|(line, _)| is_item(line)).nth(index)?;
        let first = line.after_dash().filter(|first| !first.content.is_empty());
        let length = after.iter().take_while(|line| line.indent > indent).count();
        Some((line.number, Self { first, rest: &after[..length] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(text: &str, first_line: u32, field: &str) -> u32 {
        Text::new(text, first_line).line_of(field)
    }

    const TEXT: &str = "\
apiVersion: v1
metadata:
  name: reviews
  annotations:
    \"a.b/c\": \"10\"
    plain.io/x: y
spec:
  # http: not here
  hosts: [a, b]
  http:
  - match:
    - headers:
        end-user:
          exact: jason
    - uri:
        prefix: /a
    route:
    - destination:
        host: reviews
  -
    name: second
    timeout: 5s
";

    #[test]
    fn fields_are_found_by_path() {
        for (field, line) in [
            ("", 10),
            ("metadata.name", 12),
            ("metadata.annotations[\"a.b/c\"]", 14),
            ("metadata.annotations[\"plain.io/x\"]", 15),
            ("spec.hosts", 18),
            ("spec.http", 19),
            ("spec.http[0]", 20),
            ("spec.http[0].match[0].headers.end-user.exact", 23),
            ("spec.http[0].match[1].uri.prefix", 25),
            ("spec.http[0].route[0].destination.host", 28),
            ("spec.http[1].name", 30),
            ("spec.http[1].timeout", 31),
        ] {
            assert_eq!(locate(TEXT, 10, field), line, "{field}");
        }
    }

    #[test]
    fn what_is_not_written_is_at_the_nearest_field_around_it() {
        for (field, line) in [
            ("spec.http[0].route[0].destination.port.number", 27),
            ("spec.http[7]", 19),
            ("spec.hosts[1]", 18),
            ("spec.nothing", 16),
            ("nothing", 10),
            ("spec.http[x", 19),
        ] {
            assert_eq!(locate(TEXT, 10, field), line, "{field}");
        }
        assert_eq!(locate("", 1, "spec"), 1);
        assert_eq!(locate("{\"spec\": {}}", 3, "spec"), 3);
    }
}
