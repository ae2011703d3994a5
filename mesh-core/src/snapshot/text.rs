//! Tests on strings, compiled.

use regex_automata::meta;
use regex_automata::util::syntax;

use crate::model::StringMatch;

/// Compiled automata larger than this are refused.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// Lazily built states of one expression take at most this much.
const REGEX_CACHE_LIMIT: usize = 256 << 10;

/// A regular expression that must match a whole string. Runs in linear time on any input.
#[derive(Debug, Clone)]
pub struct Regex(Box<Compiled>);

#[derive(Debug, Clone)]
struct Compiled {
    regex: meta::Regex,
    /// What everything begins with that matches.
    start: Box<[u8]>,
}

impl Regex {
    /// Compiles an expression of RE2's syntax.
    ///
    /// # Errors
    /// When it is not valid, or too large once compiled.
    pub fn whole(pattern: &str) -> Result<Self, InvalidRegex> {
        // As a group of its own: `^a|b$` is not `^(?:a|b)$`.
        Self::compile(pattern, &format!("^(?:{pattern})$"), plain_start(pattern))
    }

    /// Compiles an expression that may match anywhere, for substitutions.
    ///
    /// # Errors
    /// As [`Regex::whole`].
    pub fn anywhere(pattern: &str) -> Result<Self, InvalidRegex> {
        Self::compile(pattern, pattern, "")
    }

    /// Whether an expression is of RE2's syntax, without compiling it: cheap whatever it says.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(pattern: &str) -> Result<(), InvalidRegex> {
        syntax::parse_with(pattern, &syntax::Config::new().utf8(false))
            .map(drop)
            .map_err(|error| InvalidRegex::new(pattern, &error.to_string()))
    }

    fn compile(pattern: &str, wrapped: &str, start: &str) -> Result<Self, InvalidRegex> {
        let syntax = syntax::Config::new().utf8(false);
        // Alone first: `a)|(b` would become valid, and not anchored, by being wrapped.
        syntax::parse_with(pattern, &syntax)
            .map_err(|error| InvalidRegex::new(pattern, &error.to_string()))?;
        let limits = meta::Config::new()
            .utf8_empty(false)
            .nfa_size_limit(Some(REGEX_SIZE_LIMIT))
            .onepass_size_limit(Some(REGEX_SIZE_LIMIT))
            .hybrid_cache_capacity(REGEX_CACHE_LIMIT);
        let built = meta::Builder::new().configure(limits).syntax(syntax).build(wrapped);
        built
            .map(|regex| Self(Box::new(Compiled { regex, start: start.as_bytes().into() })))
            .map_err(|error| InvalidRegex::new(pattern, &error.to_string()))
    }

    /// Whether the expression matches.
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.0.regex.is_match(text)
    }

    /// What every text begins with that matches, as far as can be told.
    pub fn start(&self) -> &[u8] {
        &self.0.start
    }

    /// Replaces every match by `replacement`, in which `\1` is the first group, `\0` the match and `\\` a backslash.
    pub fn replace_all(&self, text: &[u8], replacement: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut from = 0;
        for captures in self.0.regex.captures_iter(text) {
            let Some(whole) = captures.get_match() else { continue };
            out.extend_from_slice(&text[from..whole.start()]);
            expand(replacement, |group| captures.get_group(group).map(|span| &text[span.range()]), &mut out);
            from = whole.end();
        }
        out.extend_from_slice(&text[from..]);
        out
    }
}

fn expand<'a>(replacement: &str, group: impl Fn(usize) -> Option<&'a [u8]>, out: &mut Vec<u8>) {
    let mut bytes = replacement.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, (byte == b'\\').then(|| bytes.next()).flatten()) {
            (_, Some(digit @ b'0'..=b'9')) => {
                out.extend_from_slice(group(usize::from(digit - b'0')).unwrap_or_default());
            }
            (_, Some(escaped)) => out.push(escaped),
            (byte, None) => out.push(byte),
        }
    }
}

/// Why an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("regular expression {pattern:?}: {reason}")]
pub struct InvalidRegex {
    pattern: String,
    reason: String,
}

impl InvalidRegex {
    fn new(pattern: &str, reason: &str) -> Self {
        // The parser draws the place below the pattern; its last line says what is wrong.
        let last = reason.lines().rfind(|line| !line.trim().is_empty()).unwrap_or(reason);
        let reason = last.trim().trim_start_matches("error: ").to_owned();
        Self { pattern: pattern.chars().take(200).collect(), reason }
    }
}

/// The plain text at the start of an expression with which everything begins that it matches as a whole.
///
/// May be shorter than could be told, and is empty for every expression with alternatives.
fn plain_start(pattern: &str) -> &str {
    if pattern.contains('|') {
        return "";
    }
    let special = |c: char| r"\.+*?()[]{}^$".contains(c);
    let plain = &pattern[..pattern.find(special).unwrap_or(pattern.len())];
    // What may be left out or repeated is the last character before it.
    match pattern[plain.len()..].chars().next() {
        Some('*' | '?' | '{' | '+') => {
            let last = plain.chars().next_back().map_or(0, char::len_utf8);
            &plain[..plain.len() - last]
        }
        _ => plain,
    }
}

/// A test on one string, compiled.
#[derive(Debug, Clone)]
pub enum Text {
    /// Equal.
    Exact(Box<[u8]>),
    /// Starts with.
    Prefix(Box<[u8]>),
    /// Ends with.
    Suffix(Box<[u8]>),
    /// Matches as a whole.
    Regex(Regex),
    /// There at all.
    Present,
}

impl Text {
    /// Compiles a test.
    ///
    /// # Errors
    /// When its regular expression is refused.
    pub fn new(test: &StringMatch) -> Result<Self, InvalidRegex> {
        let bytes = |text: &String| text.as_bytes().into();
        Ok(match test {
            StringMatch::Exact(text) => Self::Exact(bytes(text)),
            StringMatch::Prefix(text) => Self::Prefix(bytes(text)),
            StringMatch::Suffix(text) => Self::Suffix(bytes(text)),
            StringMatch::Regex(pattern) => Self::Regex(Regex::whole(pattern)?),
            StringMatch::Present => Self::Present,
        })
    }

    /// Compiles a list of tests.
    ///
    /// # Errors
    /// When one of the regular expressions is refused.
    pub fn all(tests: &[StringMatch]) -> Result<Box<[Self]>, InvalidRegex> {
        tests.iter().map(Self::new).collect()
    }

    /// What every text begins with that passes; `None` if nothing can be said.
    pub fn start(&self) -> Option<&[u8]> {
        let start = match self {
            Self::Exact(text) | Self::Prefix(text) => &**text,
            Self::Regex(regex) => regex.start(),
            Self::Suffix(_) | Self::Present => return None,
        };
        Some(start).filter(|start| !start.is_empty())
    }

    /// Whether `text` passes.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::Regex(regex) => regex.is_match(text),
            Self::Present => true,
        }
    }

    /// Whether `text` passes without regard to ASCII case; regular expressions keep it.
    pub fn matches_any_case(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.eq_ignore_ascii_case(text),
            Self::Prefix(prefix) => starts_with_any_case(text, prefix),
            Self::Suffix(suffix) => {
                let from = text.len().checked_sub(suffix.len());
                from.is_some_and(|from| text[from..].eq_ignore_ascii_case(suffix))
            }
            Self::Regex(_) | Self::Present => self.matches(text),
        }
    }
}

/// Whether `text` starts with `prefix`, without regard to ASCII case.
pub fn starts_with_any_case(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Semantics 4, and trap 4 of style.md: the whole alternation is anchored.
    #[test]
    fn a_regex_matches_the_whole_string() {
        let regex = Regex::whole("/a|/ab").unwrap();
        assert!(regex.is_match(b"/a") && regex.is_match(b"/ab"));
        assert!(!regex.is_match(b"/abc") && !regex.is_match(b"x/a"));
        assert!(!Regex::whole("/a").unwrap().is_match(b"/a\n"));
    }

    #[test]
    fn what_would_escape_the_anchors_is_refused() {
        for pattern in ["a)|(b", "(", "[", "(?P<x>", "a{100000}{100000}"] {
            assert!(Regex::whole(pattern).is_err(), "{pattern}");
        }
        let message = Regex::whole("(").unwrap_err().to_string();
        assert_eq!(message, "regular expression \"(\": unclosed group");
    }

    #[test]
    fn what_an_expression_begins_with_is_plain_text() {
        let starts = [
            ("/v1/users/[^/]+/x", "/v1/users/"),
            ("/a", "/a"),
            ("/ab*", "/a"),
            ("/ab?c", "/a"),
            ("/ab+", "/a"),
            ("/ab{0,2}", "/a"),
            ("/a\u{e4}*", "/a"),
            ("/a\u{e4}.*", "/a\u{e4}"),
            (r"/a\.b", "/a"),
            ("/a(b|c)", ""),
            ("/a|/b", ""),
            ("(?i)/a", ""),
            ("^/a$", ""),
            ("*", ""),
            ("", ""),
        ];
        for (pattern, start) in starts {
            assert_eq!(plain_start(pattern), start, "{pattern}");
        }
    }

    #[test]
    fn substitution_knows_groups_and_escapes() {
        let regex = Regex::anywhere("^/service/([^/]+)(/.*)$").unwrap();
        assert_eq!(regex.replace_all(b"/service/foo/v1", r"\2/instance/\1"), b"/v1/instance/foo");
        let slashes = Regex::anywhere("one").unwrap();
        assert_eq!(slashes.replace_all(b"/xx/one/two/one", r"\0\\"), br"/xx/one\/two/one\");
    }
}
