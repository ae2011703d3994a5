//! Reads a type out of a JSON value by the rules of proto-JSON, and says where it does not fit.
//!
//! A small serde deserializer that knows the path of every field. It differs from `serde_json`'s in four ways:
//! an error names its field; fields that no type asked for are collected instead of dropped; `null` in a struct means
//! unset; and numbers may be written as strings, as proto-JSON allows.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

/// What was read, and what was left over.
#[derive(Debug)]
pub struct Read<T> {
    pub value: T,
    /// Paths of the fields that `T` does not know, in the order of the value's members.
    pub unknown: Vec<String>,
}

/// Why a value does not fit a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, `spec.http[0].timeout`.
    pub field: String,
    /// Lower case.
    pub message: String,
    /// What to write instead, where that is clear.
    pub fix: Option<String>,
}

/// Reads `T` from `value`, whose own path is `root` (empty for a whole document).
///
/// # Errors
/// When something does not fit; the first such field is named.
pub fn read<T: DeserializeOwned>(value: &Value, root: &str) -> Result<Read<T>, FieldError> {
    let unknown = RefCell::new(Vec::new());
    let node = Node { value, path: &Path::Root(root), unknown: &unknown };
    match T::deserialize(node) {
        Ok(value) => Ok(Read { value, unknown: unknown.into_inner() }),
        Err(Error { field, message, fix }) => {
            Err(FieldError { field: field.unwrap_or_else(|| root.to_owned()), message, fix })
        }
    }
}

/// Where a value is: a list of segments that lives on the stack, written out only when needed.
#[derive(Clone, Copy)]
enum Path<'p> {
    Root(&'p str),
    Field(&'p Self, &'p str),
    Index(&'p Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(root) => f.write_str(root),
            Self::Field(Path::Root(""), name) if is_plain(name) => f.write_str(name),
            Self::Field(parent, name) if is_plain(name) => write!(f, "{parent}.{name}"),
            Self::Field(parent, name) => write!(f, "{parent}[{name:?}]"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Whether a name needs no quotes in a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

#[derive(Clone, Copy)]
struct Node<'de, 'p> {
    value: &'de Value,
    path: &'p Path<'p>,
    unknown: &'p RefCell<Vec<String>>,
}

impl<'de> Node<'de, '_> {
    fn visit<V: Visitor<'de>>(self, visitor: V, nulls: Nulls) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => visit_number(number, visitor),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), node: self }),
            Value::Object(fields) => {
                visitor.visit_map(Fields { fields: fields.iter(), pending: None, nulls, node: self })
            }
        }
    }

    /// As [`Node::visit`], with numbers that are written as strings turned into numbers.
    fn visit_number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::String(text) = self.value else { return self.visit(visitor, Nulls::Kept) };
        if let Ok(number) = text.parse::<u64>() {
            visitor.visit_u64(number)
        } else if let Ok(number) = text.parse::<i64>() {
            visitor.visit_i64(number)
        } else if let Ok(number) = text.parse::<f64>() {
            visitor.visit_f64(number)
        } else {
            visitor.visit_borrowed_str(text)
        }
    }

    /// Numbers and booleans where a string is wanted: Kubernetes refuses them too, but without saying how to help it.
    fn visit_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Value::Number(_) | Value::Bool(_) = self.value {
            let text = self.value.to_string();
            return Err(Error {
                field: None,
                message: format!("expected a string, found {text}"),
                fix: Some(format!("put it in quotes: \"{text}\"")),
            });
        }
        self.visit(visitor, Nulls::Kept)
    }

    /// Names this node in an error, unless one inside of it is named already.
    fn locate<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|mut error| {
            error.field.get_or_insert_with(|| self.path.to_string());
            error
        })
    }
}

/// What a `null` member of an object means.
#[derive(Clone, Copy, PartialEq)]
enum Nulls {
    /// The field is unset (structs).
    Unset,
    /// A value like others (maps).
    Kept,
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.visit_number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = Error;

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit(visitor, Nulls::Kept)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.visit_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if !self.value.is_object() {
            let message = format!("expected an object, found {}", name_of(self.value));
            return Err(de::Error::custom(message));
        }
        self.visit(visitor, Nulls::Unset)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        allowed: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::String(text) = self.value else {
            let message = format!("expected one of {}, found {}", allowed.join(", "), name_of(self.value));
            return Err(de::Error::custom(message));
        };
        let variant: StrDeserializer<'_, Error> = text.as_str().into_deserializer();
        visitor.visit_enum(variant)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.unknown.borrow_mut().push(self.path.to_string());
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { bool char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier }
}

fn visit_number<'de, V: Visitor<'de>>(number: &serde_json::Number, visitor: V) -> Result<V::Value, Error> {
    if let Some(number) = number.as_u64() {
        visitor.visit_u64(number)
    } else if let Some(number) = number.as_i64() {
        visitor.visit_i64(number)
    } else {
        visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN))
    }
}

fn name_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

struct Items<'de, 'p> {
    items: std::iter::Enumerate<std::slice::Iter<'de, Value>>,
    node: Node<'de, 'p>,
}

impl<'de> de::SeqAccess<'de> for Items<'de, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let path = Path::Index(self.node.path, index);
        let node = Node { value, path: &path, unknown: self.node.unknown };
        node.locate(seed.deserialize(node)).map(Some)
    }
}

struct Fields<'de, 'p> {
    fields: serde_json::map::Iter<'de>,
    pending: Option<(&'de str, &'de Value)>,
    nulls: Nulls,
    node: Node<'de, 'p>,
}

impl<'de> de::MapAccess<'de> for Fields<'de, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let skip_nulls = self.nulls == Nulls::Unset;
        let Some((name, value)) = self.fields.find(|(_, value)| !(skip_nulls && value.is_null())) else {
            return Ok(None);
        };
        self.pending = Some((name, value));
        let path = Path::Field(self.node.path, name);
        let read = seed.deserialize(Name(name));
        Node { value, path: &path, unknown: self.node.unknown }.locate(read).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let (name, value) = self.pending.take().expect("serde asks for a key before its value");
        let path = Path::Field(self.node.path, name);
        let node = Node { value, path: &path, unknown: self.node.unknown };
        node.locate(seed.deserialize(node))
    }
}

/// The name of a member: a text, or the number it spells where the map's keys are numbers.
struct Name<'de>(&'de str);

macro_rules! name_numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse() {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = Error;

    name_numbers! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    forward_to_deserialize_any! {
        bool char bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier str string option
        newtype_struct struct enum ignored_any i8 i16 i32 i64 i128 u128 f32 f64
    }
}

#[derive(Debug)]
struct Error {
    /// Filled in by the innermost node that saw the error.
    field: Option<String>,
    message: String,
    fix: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { field: None, message: message.to_string(), fix: None }
    }

    fn unknown_variant(found: &str, allowed: &'static [&'static str]) -> Self {
        let fix = allowed.iter().find(|a| a.eq_ignore_ascii_case(found)).map(|a| format!("write {a}"));
        Self { field: None, message: format!("{found:?} is not allowed; one of {}", allowed.join(", ")), fix }
    }

    fn invalid_type(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "an object".to_owned(),
            de::Unexpected::Unit => "null".to_owned(),
            de::Unexpected::Str(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
            de::Unexpected::Unsigned(number) => number.to_string(),
            de::Unexpected::Signed(number) => number.to_string(),
            de::Unexpected::Float(number) => number.to_string(),
            de::Unexpected::Bool(value) => value.to_string(),
            other => other.to_string(),
        };
        Self::custom(format!("expected {}, found {found}", plainly(&expected.to_string())))
    }

    fn invalid_value(found: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

/// Rust's names of types in the words of whoever writes YAML.
fn plainly(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "u8" => "a number from 0 to 255",
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        "u64" => "a number not below 0",
        "i32" | "i64" => "a whole number",
        "f64" => "a number",
        "a boolean" => "true or false",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::networking::{ServiceEntry, VirtualService};
    use crate::api::security::PeerAuthentication;
    use crate::api::{Duration, StringMatch};

    fn refusal<T: DeserializeOwned + fmt::Debug>(value: &Value) -> String {
        let error = read::<T>(value, "spec").unwrap_err();
        let fix = error.fix.map(|fix| format!(" ({fix})")).unwrap_or_default();
        format!("{}: {}{fix}", error.field, error.message)
    }

    #[test]
    fn every_refusal_names_its_field_and_what_is_allowed() {
        let route = |field: &str, value: Value| json!({"http": [{}, {field: value}]});
        for (value, message) in [
            (json!([]), "spec: expected an object, found a list"),
            (json!({"hosts": "a"}), "spec.hosts: expected a list, found \"a\""),
            (json!({"hosts": [8]}), "spec.hosts[0]: expected a string, found 8 (put it in quotes: \"8\")"),
            (
                route("timeout", json!("5")),
                "spec.http[1].timeout: \"5\" is not a duration; write a number and a unit (ns, us, ms, s, m, h), \
                 such as 1.5s or 100ms",
            ),
            (
                route("match", json!([{"uri": {"exact": "/", "prefix": "/"}}])),
                "spec.http[1].match[0].uri: only one of exact, prefix, regex may be set",
            ),
            (
                route("route", json!([{"destination": {"port": {"number": 70000}}}])),
                "spec.http[1].route[0].destination.port.number: expected a number from 0 to 65535, found 70000",
            ),
            (
                route("redirect", json!({"derivePort": "from_request_port"})),
                "spec.http[1].redirect.derivePort: \"from_request_port\" is not allowed; one of \
                 FROM_PROTOCOL_DEFAULT, FROM_REQUEST_PORT (write FROM_REQUEST_PORT)",
            ),
            (
                route("headers", json!({"request": {"set": {"x-a.b": true}}})),
                "spec.http[1].headers.request.set[\"x-a.b\"]: expected a string, found true (put it in quotes: \
                 \"true\")",
            ),
        ] {
            assert_eq!(refusal::<VirtualService>(&value), message);
        }
        assert_eq!(
            refusal::<PeerAuthentication>(&json!({"portLevelMtls": {"http": {"mode": "STRICT"}}})),
            "spec.portLevelMtls.http: expected a number from 0 to 65535, found \"http\""
        );
    }

    #[test]
    fn fields_nobody_knows_are_collected() {
        let value =
            json!({"hosts": ["a"], "colour": 1, "http": [{"foo": {"bar": 1}, "route": [{"wight": 3}]}]});
        let read = read::<VirtualService>(&value, "spec").unwrap();
        assert_eq!(read.unknown, ["spec.colour", "spec.http[0].foo", "spec.http[0].route[0].wight"]);
    }

    #[test]
    fn null_is_unset_and_an_empty_match_is_present() {
        let value = json!({"hosts": null, "http": [{
            "timeout": "1.5s", "retries": null, "match": [{"headers": {"a": {}, "b": null, "c": {"regex": "x"}}}],
        }]});
        let read = read::<VirtualService>(&value, "spec").unwrap();
        let route = &read.value.http[0];
        assert_eq!(route.timeout, Some("1500ms".parse::<Duration>().unwrap()));
        assert_eq!(route.matches[0].headers["a"], StringMatch::Present);
        assert_eq!(route.matches[0].headers["b"], StringMatch::Present);
        assert_eq!(route.matches[0].headers["c"], StringMatch::Regex("x".to_owned()));
        assert!(read.unknown.is_empty(), "{:?}", read.unknown);
    }

    #[test]
    fn numbers_may_be_strings_and_keys_may_be_numbers() {
        let entry = read::<ServiceEntry>(&json!({"ports": [{"number": "443"}]}), "spec").unwrap();
        assert_eq!(entry.value.ports[0].number, 443);
        let policy =
            read::<PeerAuthentication>(&json!({"portLevelMtls": {"8080": {"mode": "DISABLE"}}}), "spec");
        assert!(policy.unwrap().value.port_level_mtls.contains_key(&8080));
    }
}
