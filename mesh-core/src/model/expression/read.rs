//! From tokens to terms, with the kinds of values checked: what cannot hold is told when it is written, not when a
//! request comes.

use super::token::{Token, tokens};
use super::{Attribute, Comparison, Kind, Pattern, Search, Term};
use crate::model::template::is_credential;

/// Brackets and operators within each other at most.
const DEEPEST: usize = 64;
/// The longest text that is read, in bytes.
const LONGEST: usize = 4096;

/// The term that a text says.
pub(super) fn term(text: &str) -> Result<Term, String> {
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    let mut reader = Reader { tokens: tokens(text)?, at: 0, depth: 0 };
    let term = reader.choice()?;
    match reader.peek() {
        None => Ok(term),
        Some(token) => Err(format!("{} is not expected here", shown(token))),
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) => word.clone(),
        Token::Number(number) => number.to_string(),
        Token::Text(text) => format!("{text:?}"),
        Token::Sign(sign) => (*sign).to_owned(),
    }
}

fn want(term: Term, kind: Kind, place: &str) -> Result<Term, String> {
    match term.kind() == kind {
        true => Ok(term),
        false => Err(format!("{place} takes {}", kind_name(kind))),
    }
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "a condition",
        Kind::Number => "a number",
        Kind::Text => "a text",
    }
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(match self.peek() {
                Some(token) => format!("{sign} is missing before {}", shown(token)),
                None => format!("{sign} is missing at the end"),
            }),
        }
    }

    /// `a ? b : c`
    fn choice(&mut self) -> Result<Term, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("more than {DEEPEST} parts within each other"));
        }
        let condition = self.either()?;
        let term = if self.take("?") {
            let condition = want(condition, Kind::Bool, "?")?;
            let first = self.choice()?;
            self.expect(":")?;
            let second = want(self.choice()?, first.kind(), "the part after :")?;
            Term::If(Box::new([condition, first, second]))
        } else {
            condition
        };
        self.depth -= 1;
        Ok(term)
    }

    fn either(&mut self) -> Result<Term, String> {
        let mut term = self.both()?;
        while self.take("||") {
            let other = want(self.both()?, Kind::Bool, "||")?;
            term = Term::Or(Box::new([want(term, Kind::Bool, "||")?, other]));
        }
        Ok(term)
    }

    fn both(&mut self) -> Result<Term, String> {
        let mut term = self.relation()?;
        while self.take("&&") {
            let other = want(self.relation()?, Kind::Bool, "&&")?;
            term = Term::And(Box::new([want(term, Kind::Bool, "&&")?, other]));
        }
        Ok(term)
    }

    fn relation(&mut self) -> Result<Term, String> {
        let left = self.sum()?;
        if self.peek() == Some(&Token::Word("in".to_owned())) {
            self.at += 1;
            return self.membership(left);
        }
        let operators = [
            ("==", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let Some((sign, comparison)) = operators.into_iter().find(|(sign, _)| self.take(sign)) else {
            return Ok(left);
        };
        let right = want(self.sum()?, left.kind(), &format!("the right side of {sign}"))?;
        let ordered = !matches!(comparison, Comparison::Equal | Comparison::Unequal);
        if ordered && left.kind() == Kind::Bool {
            return Err(format!("{sign} does not take conditions"));
        }
        Ok(Term::Compare(comparison, Box::new([left, right])))
    }

    /// `in [a, b]`, or `'x-header' in request.headers`.
    fn membership(&mut self, left: Term) -> Result<Term, String> {
        if self.take("[") {
            let mut items = Vec::new();
            while !self.take("]") {
                items.push(want(self.sum()?, left.kind(), "the list after in")?);
                if !self.take(",") {
                    self.expect("]")?;
                    break;
                }
            }
            return Ok(Term::In(Box::new(left), items.into()));
        }
        let (Term::Text(name), Some(map)) = (left, self.headers()) else {
            return Err("in takes a list, or a header's name and request.headers".to_owned());
        };
        header(map, &name).map(Term::Has)
    }

    fn sum(&mut self) -> Result<Term, String> {
        let mut term = self.unary()?;
        while self.take("+") {
            let other = want(self.unary()?, Kind::Text, "+")?;
            term = Term::Join(Box::new([want(term, Kind::Text, "+")?, other]));
        }
        Ok(term)
    }

    fn unary(&mut self) -> Result<Term, String> {
        let mut negations = 0;
        while self.take("!") {
            negations += 1;
        }
        if self.take("-") {
            return match self.tokens.get(self.at) {
                Some(Token::Number(number)) => {
                    self.at += 1;
                    Ok(Term::Number(-number))
                }
                _ => Err("- takes a number".to_owned()),
            };
        }
        let term = self.method()?;
        match negations {
            0 => Ok(term),
            odd if odd % 2 == 1 => Ok(Term::Not(Box::new(want(term, Kind::Bool, "!")?))),
            _ => want(term, Kind::Bool, "!"),
        }
    }

    /// A value and the methods that are called on it.
    fn method(&mut self) -> Result<Term, String> {
        let mut term = self.value()?;
        while self.take(".") {
            let Some(Token::Word(method)) = self.peek().cloned() else {
                return Err("a method's name is missing after .".to_owned());
            };
            self.at += 1;
            self.expect("(")?;
            term = self.call(want(term, Kind::Text, &method)?, &method)?;
            self.expect(")")?;
        }
        Ok(term)
    }

    fn call(&mut self, on: Term, method: &str) -> Result<Term, String> {
        let search = match method {
            "size" => return Ok(Term::Size(Box::new(on))),
            "matches" => {
                let Some(Token::Text(pattern)) = self.peek().cloned() else {
                    return Err("matches takes a pattern in quotes".to_owned());
                };
                self.at += 1;
                return Ok(Term::Matches(Box::new(on), Box::new(compiled(&pattern)?)));
            }
            "startsWith" => Search::StartsWith,
            "endsWith" => Search::EndsWith,
            "contains" => Search::Contains,
            other => return Err(format!("method {other} is not supported")),
        };
        let text = want(self.choice()?, Kind::Text, method)?;
        Ok(Term::Search(search, Box::new([on, text])))
    }

    fn value(&mut self) -> Result<Term, String> {
        let Some(token) = self.peek().cloned() else {
            return Err("the expression ends too early".to_owned());
        };
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Term::Number(number)),
            Token::Text(text) => Ok(Term::Text(text.into())),
            Token::Sign("(") => {
                let term = self.choice()?;
                self.expect(")")?;
                Ok(term)
            }
            Token::Sign(sign) => Err(format!("{sign} is not expected here")),
            Token::Word(word) => self.word(&word),
        }
    }

    fn word(&mut self, word: &str) -> Result<Term, String> {
        match word {
            "true" => Ok(Term::Bool(true)),
            "false" => Ok(Term::Bool(false)),
            "has" | "size" | "string" if self.take("(") => {
                let term = self.function(word)?;
                self.expect(")")?;
                Ok(term)
            }
            _ => {
                self.at -= 1;
                self.attribute().map(Term::Attribute)
            }
        }
    }

    fn function(&mut self, name: &str) -> Result<Term, String> {
        if name == "has" {
            return self.attribute().map(Term::Has);
        }
        let term = self.choice()?;
        Ok(match name {
            "size" => Term::Size(Box::new(want(term, Kind::Text, "size")?)),
            _ => Term::ToText(Box::new(term)),
        })
    }

    /// `request.headers` or `response.headers`, if that is what comes next.
    fn headers(&mut self) -> Option<&'static str> {
        let [Token::Word(of), Token::Sign("."), Token::Word(word)] = self.tokens.get(self.at..self.at + 3)?
        else {
            return None;
        };
        let map = match (of.as_str(), word.as_str()) {
            ("request", "headers") => "request",
            ("response", "headers") => "response",
            _ => return None,
        };
        self.at += 3;
        Some(map)
    }

    fn attribute(&mut self) -> Result<Attribute, String> {
        if let Some(map) = self.headers() {
            return self.header_of(map);
        }
        let mut name = String::new();
        let mut end = self.at;
        // Of `request.path.startsWith(` the last word is a method.
        while let Some(Token::Word(word)) = self.tokens.get(end) {
            let is_method = self.tokens.get(end + 1) == Some(&Token::Sign("("));
            if is_method {
                break;
            }
            name.push_str(if name.is_empty() { "" } else { "." });
            name.push_str(word);
            self.at = end + 1;
            if self.tokens.get(end + 1) != Some(&Token::Sign(".")) {
                break;
            }
            end += 2;
        }
        if name.is_empty() {
            return Err(match self.peek() {
                Some(token) => format!("{} is not supported", shown(token)),
                None => "the expression ends too early".to_owned(),
            });
        }
        Attribute::named(&name).ok_or_else(|| {
            format!("attribute {name} is not supported (a text is written in quotes: '{name}')")
        })
    }

    fn header_of(&mut self, map: &str) -> Result<Attribute, String> {
        if self.take("[") {
            let Some(Token::Text(name)) = self.peek().cloned() else {
                return Err("a header's name is missing: request.headers['x-name']".to_owned());
            };
            self.at += 1;
            self.expect("]")?;
            return header(map, &name);
        }
        if let (true, Some(Token::Word(name))) = (self.take("."), self.peek().cloned()) {
            self.at += 1;
            return header(map, &name);
        }
        Err("a header's name is missing: request.headers['x-name']".to_owned())
    }
}

fn header(map: &str, name: &str) -> Result<Attribute, String> {
    let name = name.to_ascii_lowercase();
    if is_credential(&name) {
        return Err(format!("header {name} carries credentials and is not shown"));
    }
    Ok(match (map, name.as_str()) {
        ("request", ":path") => Attribute::RequestPath,
        ("request", ":method") => Attribute::RequestMethod,
        ("request", ":authority" | "host") => Attribute::RequestHost,
        ("request", ":scheme") => Attribute::RequestScheme,
        ("request", _) => Attribute::RequestHeader(name.into()),
        _ => Attribute::ResponseHeader(name.into()),
    })
}

fn compiled(pattern: &str) -> Result<Pattern, String> {
    regex_automata::meta::Regex::new(pattern)
        .map(|regex| Pattern(regex, pattern.to_owned()))
        .map_err(|error| format!("{pattern:?} is no regular expression: {error}"))
}
