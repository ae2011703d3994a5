//! The structural schema of a type, learnt from its `Deserialize`: a deserializer that hands out the simplest value of whatever
//! it is asked for, and writes down what that was.
//!
//! A field's aliases are asked for like fields; a type that gets a field twice says so, and is then run again without the alias,
//! which takes over the field's schema. What asks for "anything" is known by the words in which it says what it expects.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Value, json};

/// A type that has no structural schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

impl de::Error for SchemaError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self(format!("{DUPLICATE}{field}"))
    }
}

const DUPLICATE: &str = "duplicate field ";
/// More aliases than any type has.
const MOST_PASSES: usize = 64;

/// Of a struct by name: alias and the field it stands for.
type Aliases = BTreeMap<(&'static str, &'static str), &'static str>;

/// The schema of `T`.
///
/// # Errors
/// When `T` asks for something that has no schema.
pub(super) fn of<T: DeserializeOwned>() -> Result<Value, SchemaError> {
    let mut aliases = Aliases::new();
    for _ in 0..MOST_PASSES {
        let tracer = Tracer { aliases: &aliases, schema: RefCell::default(), asked: RefCell::default() };
        match T::deserialize(&tracer) {
            Ok(_) => return Ok(tracer.schema.into_inner()),
            Err(SchemaError(message)) => {
                let asked = *tracer.asked.borrow();
                let field = message.strip_prefix(DUPLICATE).and_then(|field| canonical(field, &asked));
                let (Some(field), Some((of, alias, _))) = (field, asked) else {
                    return Err(SchemaError(message));
                };
                aliases.insert((of, alias), field);
            }
        }
    }
    Err(SchemaError("too many aliases".to_owned()))
}

/// The field of that name, as the struct lists it.
fn canonical(name: &str, asked: &Option<Asked>) -> Option<&'static str> {
    let (_, _, fields) = asked.as_ref()?;
    fields.iter().find(|field| **field == name).copied()
}

/// The struct, the field handed out last, and all its fields.
type Asked = (&'static str, &'static str, &'static [&'static str]);

struct Tracer<'a> {
    aliases: &'a Aliases,
    schema: RefCell<Value>,
    asked: RefCell<Option<Asked>>,
}

impl Tracer<'_> {
    fn write(&self, schema: Value) {
        *self.schema.borrow_mut() = schema;
    }

    fn whole_number(&self, least: i64, most: i64) {
        self.write(json!({"type": "integer", "format": "int64", "minimum": least, "maximum": most}));
    }

    /// One part of this value, with a schema of its own.
    fn part(&self) -> Self {
        Tracer { aliases: self.aliases, schema: RefCell::default(), asked: RefCell::default() }
    }

    /// Takes over what a part was asked last, for whoever looks for aliases.
    fn finish<T>(&self, part: &Self, result: Result<T, SchemaError>) -> Result<(T, Value), SchemaError> {
        let value = result.inspect_err(|_| {
            if let Some(asked) = *part.asked.borrow() {
                *self.asked.borrow_mut() = Some(asked);
            }
        })?;
        Ok((value, part.schema.take()))
    }
}

macro_rules! whole_numbers {
    ($($method:ident $least:expr, $most:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
            self.whole_number($least, $most);
            visitor.visit_u64(1)
        }
    )*};
}

impl<'de> Deserializer<'de> for &Tracer<'_> {
    type Error = SchemaError;

    whole_numbers! {
        deserialize_u8 0, 255;
        deserialize_u16 0, 65_535;
        deserialize_u32 0, 4_294_967_295;
        deserialize_u64 0, i64::MAX;
        deserialize_i8 -128, 127;
        deserialize_i16 -32_768, 32_767;
        deserialize_i32 -2_147_483_648, 2_147_483_647;
        deserialize_i64 i64::MIN, i64::MAX;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        let expected = (&visitor as &dyn de::Expected).to_string();
        match expected.as_str() {
            "an object with one of exact, prefix, regex" => {
                let text = json!({"type": "string"});
                let properties = json!({"exact": text, "prefix": text, "regex": text});
                self.write(json!({"type": "object", "properties": properties, "maxProperties": 1}));
                visitor.visit_unit()
            }
            "a duration, such as 1.5s or 100ms" => {
                self.write(json!({"type": "string"}));
                visitor.visit_str("1s")
            }
            "a port number or a port's name" => {
                self.write(json!({"x-kubernetes-int-or-string": true}));
                visitor.visit_u64(1)
            }
            "any valid JSON value" => {
                self.write(json!({"x-kubernetes-preserve-unknown-fields": true}));
                visitor.visit_unit()
            }
            _ => Err(SchemaError(format!("no schema is known for what expects {expected}"))),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.write(json!({"type": "boolean"}));
        visitor.visit_bool(true)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.write(json!({"type": "number"}));
        visitor.visit_f64(1.0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.write(json!({"type": "string"}));
        visitor.visit_str("1")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        visitor.visit_seq(One { tracer: self, given: false })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, SchemaError> {
        visitor.visit_map(One { tracer: self, given: false })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.write(json!({"type": "object", "properties": {}}));
        visitor.visit_map(Fields { tracer: self, name, fields, at: 0 })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, SchemaError> {
        self.write(json!({"type": "string", "enum": variants}));
        visitor.visit_enum(First(variants[0]))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A list of one item, or a map of one member.
struct One<'t, 'a> {
    tracer: &'t Tracer<'a>,
    given: bool,
}

impl<'de> SeqAccess<'de> for One<'_, '_> {
    type Error = SchemaError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, SchemaError> {
        if std::mem::replace(&mut self.given, true) {
            return Ok(None);
        }
        let part = self.tracer.part();
        let (value, items) = self.tracer.finish(&part, seed.deserialize(&part))?;
        self.tracer.write(json!({"type": "array", "items": items}));
        Ok(Some(value))
    }
}

impl<'de> MapAccess<'de> for One<'_, '_> {
    type Error = SchemaError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SchemaError> {
        if std::mem::replace(&mut self.given, true) {
            return Ok(None);
        }
        // In JSON every name is a string, whatever the map's keys are.
        seed.deserialize(&self.tracer.part()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, SchemaError> {
        let part = self.tracer.part();
        let (value, schema) = self.tracer.finish(&part, seed.deserialize(&part))?;
        self.tracer.write(json!({"type": "object", "additionalProperties": schema}));
        Ok(value)
    }
}

struct Fields<'t, 'a> {
    tracer: &'t Tracer<'a>,
    name: &'static str,
    fields: &'static [&'static str],
    at: usize,
}

impl Fields<'_, '_> {
    fn add(&self, field: &str, schema: Value) {
        let mut whole = self.tracer.schema.borrow_mut();
        if let Some(properties) = whole.get_mut("properties").and_then(Value::as_object_mut) {
            properties.insert(field.to_owned(), schema);
        }
    }

    /// Gives aliases the schemas of their fields.
    fn add_aliases(&self) {
        let properties =
            self.tracer.schema.borrow()["properties"].as_object().cloned().unwrap_or_else(Map::new);
        for ((_, alias), field) in self.tracer.aliases.iter().filter(|((of, _), _)| *of == self.name) {
            if let Some(schema) = properties.get(*field) {
                self.add(alias, schema.clone());
            }
        }
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = SchemaError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, SchemaError> {
        while let Some(field) = self.fields.get(self.at) {
            self.at += 1;
            if self.tracer.aliases.contains_key(&(self.name, *field)) {
                continue;
            }
            *self.tracer.asked.borrow_mut() = Some((self.name, field, self.fields));
            let name: StrDeserializer<'_, SchemaError> = (*field).into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        self.add_aliases();
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, SchemaError> {
        let field = self.fields[self.at - 1];
        let part = self.tracer.part();
        let (value, schema) = self.tracer.finish(&part, seed.deserialize(&part))?;
        self.add(field, schema);
        Ok(value)
    }
}

/// An enum's first variant, which must be a plain word.
struct First(&'static str);

impl<'de> EnumAccess<'de> for First {
    type Error = SchemaError;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), SchemaError> {
        let name: StrDeserializer<'_, SchemaError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for First {
    type Error = SchemaError;

    fn unit_variant(self) -> Result<(), SchemaError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, SchemaError> {
        Err(SchemaError(format!("variant {} is more than a word", self.0)))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, SchemaError> {
        Err(SchemaError(format!("variant {} is more than a word", self.0)))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, SchemaError> {
        Err(SchemaError(format!("variant {} is more than a word", self.0)))
    }
}
