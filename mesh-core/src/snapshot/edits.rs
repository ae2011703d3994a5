//! Edits of headers, compiled: values are shared bytes, so that applying them copies nothing.

use bytes::Bytes;

use crate::message::Headers;
use crate::model;

/// Header names that belong to the codec: an edit that changed one could change the framing.
const FRAMING: [&str; 8] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Removals first, then `set`, then `add`, each in order of names (semantics.md 10).
#[derive(Debug, Clone, Default)]
pub struct Edits {
    remove: Box<[Box<str>]>,
    set: Box<[(Bytes, Bytes)]>,
    add: Box<[(Bytes, Bytes)]>,
    /// The authority to send.
    pub authority: Option<Bytes>,
}

impl Edits {
    /// Compiles edits. Pseudo-headers and headers of the framing are ignored, as Envoy does.
    ///
    /// # Errors
    /// When a name or value has a byte that no header may have.
    pub fn new(model: &model::HeaderEdits) -> Result<Self, InvalidHeader> {
        let mut remove: Vec<Box<str>> = Vec::new();
        for name in model.remove.iter().filter(|name| may_edit(name)) {
            remove.push(valid_name(name)?.into());
        }
        remove.sort_unstable();
        Ok(Self {
            remove: remove.into(),
            set: fields(&model.set)?,
            add: fields(&model.add)?,
            authority: model.authority.as_deref().map(|text| valid_value("authority", text)).transpose()?,
        })
    }

    /// Removes what is to be removed.
    pub fn remove(&self, headers: &mut Headers) {
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// Sets and adds what is to be set and added.
    pub fn write(&self, headers: &mut Headers) {
        for (name, value) in &self.set {
            headers.set(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }

    /// Applies all of them.
    pub fn apply(&self, headers: &mut Headers) {
        self.remove(headers);
        self.write(headers);
    }
}

fn may_edit(name: &str) -> bool {
    !name.starts_with(':') && !FRAMING.iter().any(|framing| framing.eq_ignore_ascii_case(name))
}

fn fields(model: &[(String, String)]) -> Result<Box<[(Bytes, Bytes)]>, InvalidHeader> {
    let mut fields = Vec::with_capacity(model.len());
    for (name, value) in model.iter().filter(|(name, _)| may_edit(name)) {
        fields.push((Bytes::from(valid_name(name)?.to_owned()), valid_value(name, value)?));
    }
    fields.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(fields.into())
}

fn valid_name(name: &str) -> Result<&str, InvalidHeader> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let valid = !name.is_empty() && name.bytes().all(token);
    valid.then_some(name).ok_or_else(|| InvalidHeader::Name(name.chars().take(80).collect()))
}

fn valid_value(name: &str, value: &str) -> Result<Bytes, InvalidHeader> {
    let valid = value.bytes().all(|b| b == b'\t' || (b >= b' ' && b != 0x7f));
    let bytes = || Bytes::from(value.trim().to_owned());
    valid.then(bytes).ok_or_else(|| InvalidHeader::Value(name.to_owned()))
}

/// Why an edit is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// Not a token.
    #[error("{0:?} is not a header name")]
    Name(String),
    /// A control byte.
    #[error("the value of header {0} has a control character")]
    Value(String),
}
