//! Expressions over a request that has ended: the part of CEL that users of Istio write in log filters and metric labels.
//!
//! Comparisons, `&&`, `||`, `!`, `?:`, `in`, `+` of texts, `has()`, `size()`, `string()`, and the methods `startsWith`,
//! `endsWith`, `contains` and `matches`, over the attributes of [`Attribute`]. What is outside of that is an error that says
//! so; nothing is guessed. There are no macros over lists, no arithmetic and no time.
//!
//! As in CEL, an attribute that is not there makes an expression fail, unless `&&`, `||` or `has()` make that irrelevant.

mod attribute;
mod read;
mod token;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use attribute::{Attribute, PeerFact, Which};

/// An expression, read once.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    text: String,
    root: Term,
}

/// A part of an expression.
#[derive(Debug, Clone)]
pub enum Term {
    /// `true`
    Bool(bool),
    /// `500`
    Number(i64),
    /// `'GET'`
    Text(Box<str>),
    /// `request.method`
    Attribute(Attribute),
    /// `has(request.headers['x'])`
    Has(Attribute),
    /// `!a`
    Not(Box<Self>),
    /// `a && b`
    And(Box<[Self; 2]>),
    /// `a || b`
    Or(Box<[Self; 2]>),
    /// `a ? b : c`
    If(Box<[Self; 3]>),
    /// `a < b`
    Compare(Comparison, Box<[Self; 2]>),
    /// `a in ['x', 'y']`
    In(Box<Self>, Box<[Self]>),
    /// `a + b`, of texts.
    Join(Box<[Self; 2]>),
    /// `size(a)`, of a text.
    Size(Box<Self>),
    /// `string(a)`
    ToText(Box<Self>),
    /// `a.contains(b)`
    Search(Search, Box<[Self; 2]>),
    /// `a.matches('^/api')`: the pattern is found anywhere in the text.
    Matches(Box<Self>, Box<Pattern>),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the operators")]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// Where one text is looked for in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the methods")]
pub enum Search {
    StartsWith,
    EndsWith,
    Contains,
}

/// A compiled regular expression.
pub struct Pattern(pub(super) regex_automata::meta::Regex, String);

impl Pattern {
    /// Whether it is found in a text.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1.clone())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

/// Why a text is no expression that is supported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ExpressionError {
    message: String,
}

impl Expression {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it says.
    pub const fn root(&self) -> &Term {
        &self.root
    }

    /// Whether it is a condition: something that holds or does not.
    pub fn is_condition(&self) -> bool {
        self.root.kind() == Kind::Bool
    }

    pub(crate) fn request_headers<'a>(&'a self, take: &mut dyn FnMut(&'a str)) {
        self.root.attributes(&mut |attribute| {
            if let Attribute::RequestHeader(name) = attribute {
                take(name);
            }
        });
    }

    pub(crate) fn response_headers<'a>(&'a self, take: &mut dyn FnMut(&'a str)) {
        self.root.attributes(&mut |attribute| {
            if let Attribute::ResponseHeader(name) = attribute {
                take(name);
            }
        });
    }
}

/// What values a term has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number,
    Text,
}

impl Term {
    fn kind(&self) -> Kind {
        match self {
            Self::Bool(_) | Self::Has(_) | Self::Not(_) | Self::And(_) | Self::Or(_) => Kind::Bool,
            Self::Compare(..) | Self::In(..) | Self::Search(..) | Self::Matches(..) => Kind::Bool,
            Self::Number(_) | Self::Size(_) => Kind::Number,
            Self::Text(_) | Self::Join(_) | Self::ToText(_) => Kind::Text,
            Self::Attribute(attribute) => attribute.kind(),
            Self::If(parts) => parts[1].kind(),
        }
    }

    fn attributes<'a>(&'a self, take: &mut dyn FnMut(&'a Attribute)) {
        match self {
            Self::Bool(_) | Self::Number(_) | Self::Text(_) => {}
            Self::Attribute(attribute) | Self::Has(attribute) => take(attribute),
            Self::Not(term) | Self::Size(term) | Self::ToText(term) | Self::Matches(term, _) => {
                term.attributes(take);
            }
            Self::And(terms) | Self::Or(terms) | Self::Join(terms) => {
                terms.iter().for_each(|term| term.attributes(take));
            }
            Self::Compare(_, terms) | Self::Search(_, terms) => {
                terms.iter().for_each(|term| term.attributes(take));
            }
            Self::If(terms) => terms.iter().for_each(|term| term.attributes(take)),
            Self::In(term, terms) => {
                term.attributes(take);
                terms.iter().for_each(|term| term.attributes(take));
            }
        }
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let root = read::term(text).map_err(|message| ExpressionError { message })?;
        Ok(Self { text: text.to_owned(), root })
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.text)
    }
}

/// Of the same text is the same.
impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

#[cfg(test)]
mod tests;
