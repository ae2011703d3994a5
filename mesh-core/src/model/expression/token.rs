//! From text to tokens.

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// `request`, `true`, `in`
    Word(String),
    Number(i64),
    Text(String),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// Longest first.
const SIGNS: [&str; 20] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ".", ",", "?", ":", "+", "-", "{",
];

/// The tokens of a text.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let token = if first.is_ascii_alphabetic() || first == '_' {
            word(&mut rest)
        } else if first.is_ascii_digit() {
            number(&mut rest)?
        } else if first == '"' || first == '\'' {
            quoted(&mut rest, first)?
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("{first:?} is not supported in expressions"))?;
            rest = &rest[sign.len()..];
            Token::Sign(sign)
        };
        found.push(token);
        rest = rest.trim_start();
    }
    Ok(found)
}

fn split<'a>(rest: &mut &'a str, ends: impl Fn(char) -> bool) -> &'a str {
    let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    *rest = after;
    word
}

fn word(rest: &mut &str) -> Token {
    Token::Word(split(rest, |c| !c.is_ascii_alphanumeric() && c != '_').to_owned())
}

fn number(rest: &mut &str) -> Result<Token, String> {
    let digits = split(rest, |c| !c.is_ascii_alphanumeric() && c != '.');
    digits.parse().map(Token::Number).map_err(|_| format!("{digits} is not a whole number"))
}

fn quoted(rest: &mut &str, quote: char) -> Result<Token, String> {
    let mut text = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some((_, escaped @ ('\\' | '\'' | '"'))) => text.push(escaped),
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                other => return Err(format!("escape \\{} is not supported", other.map_or(' ', |(_, c)| c))),
            },
            end if end == quote => {
                *rest = &rest[at + 1..];
                return Ok(Token::Text(text));
            }
            other => text.push(other),
        }
    }
    Err(format!("a text that begins with {quote} does not end"))
}
