//! How strings are matched, in VirtualServices and wherever Istio reuses `StringMatch`.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// One way to match a string.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// The whole string.
    Exact(String),
    /// The start of the string, not of a path segment: `/foo` matches `/foobar`.
    Prefix(String),
    /// RE2 syntax, must match the whole string.
    Regex(String),
    /// `{}`: the value is there, whatever it is.
    Present,
}

impl<'de> Deserialize<'de> for StringMatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StringMatchVisitor)
    }
}

struct StringMatchVisitor;

impl<'de> Visitor<'de> for StringMatchVisitor {
    type Value = StringMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one of exact, prefix, regex")
    }

    fn visit_unit<E: de::Error>(self) -> Result<StringMatch, E> {
        Ok(StringMatch::Present)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StringMatch, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            let way: fn(String) -> StringMatch = match key.as_str() {
                "exact" => StringMatch::Exact,
                "prefix" => StringMatch::Prefix,
                "regex" => StringMatch::Regex,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if found.replace(way(map.next_value()?)).is_some() {
                return Err(de::Error::custom("only one of exact, prefix, regex may be set"));
            }
        }
        Ok(found.unwrap_or(StringMatch::Present))
    }
}

impl Serialize for StringMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = match self {
            Self::Exact(text) => Some(("exact", text)),
            Self::Prefix(text) => Some(("prefix", text)),
            Self::Regex(text) => Some(("regex", text)),
            Self::Present => None,
        };
        let mut map = serializer.serialize_map(Some(usize::from(entry.is_some())))?;
        if let Some((way, text)) = entry {
            map.serialize_entry(way, text)?;
        }
        map.end()
    }
}
