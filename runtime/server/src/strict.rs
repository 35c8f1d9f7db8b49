//! JSON read as types, where an object is an object: serde would take an array for one too, its
//! items for the fields in the order in which the program happens to have them.
//!
//! ```text
//!   text ─▶ serde_json ─▶ Strict ─▶ type      a struct takes objects only, at any depth
//!                 └─ wrong ─▶ once more, with the path ─▶ field, and what is wrong, in plain words
//! ```
//! In: a text. Out: a value, or what is wrong and where. Invariant: errors name no type of this
//! program; the second pass happens only after the first has failed.

use std::fmt;

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde_json::error::Category;

/// What is wrong with a text.
#[derive(Debug)]
pub(crate) enum Wrong {
    /// It is no JSON; why.
    Syntax(String),
    /// It is another JSON than it should be.
    Shape {
        /// The way to what is wrong; empty: all of it.
        field: String,
        /// What was found, what was expected, and the line and column.
        why: String,
    },
}

/// Reads a text.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn from_slice<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Wrong> {
    let mut source = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(Strict(&mut source));
    value.and_then(|value| source.end().map(|()| value)).map_err(|error| {
        // The parser calls it a wrong value too if a name was expected and something else is there.
        let is_json = || serde_json::from_slice::<IgnoredAny>(text).is_ok();
        match error.classify() {
            Category::Data => wrong_shape::<T>(text, &error),
            Category::Syntax if is_json() => wrong_shape::<T>(text, &error),
            Category::Syntax | Category::Eof | Category::Io => Wrong::Syntax(error.to_string()),
        }
    })
}

/// Reads a second time, now keeping track of where in the tree we are.
fn wrong_shape<'a, T: Deserialize<'a>>(text: &'a [u8], error: &serde_json::Error) -> Wrong {
    let mut source = serde_json::Deserializer::from_slice(text);
    let traced: Result<T, _> = serde_path_to_error::deserialize(Strict(&mut source));
    let field = traced.err().map(|traced| traced.path().to_string()).unwrap_or_default();
    let field = if field == "." { String::new() } else { field };
    Wrong::Shape { field, why: plain(&error.to_string()) }
}

/// serde's words about a wrong type, in those of JSON.
fn plain(error: &str) -> String {
    let (why, place) = match error.rsplit_once(" at line ") {
        Some((why, place)) => (why, format!(" at line {place}")),
        None => (error, String::new()),
    };
    if why == "expected value" {
        return format!("expected one of the names that it can have{place}");
    }
    let typed = ["invalid type: ", "invalid value: "];
    let typed = typed.iter().find_map(|begin| why.strip_prefix(begin));
    let Some((found, expected)) = typed.and_then(|typed| typed.split_once(", expected ")) else {
        return error.to_owned();
    };
    let found = match found {
        "sequence" => "an array",
        "map" => "an object",
        other => other,
    };
    let expected = match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, not below 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
    };
    format!("found {found}, expected {expected}{place}")
}

/// Any part of reading, with all that is inside of it.
struct Strict<T>(T);

/// Takes the fields of a struct, from an object.
struct Object<V> {
    inner: V,
    fields: &'static [&'static str],
}

/// Passes calls on to the source, with a visitor that stays strict.
macro_rules! pass {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {$(
        fn $name<V: Visitor<'de>>(
            self,
            $($argument: $type,)*
            visitor: V,
        ) -> Result<V::Value, D::Error> {
            self.0.$name($($argument,)* Strict(visitor))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        inner: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, Object { inner, fields })
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }

    pass! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(length: usize);
        deserialize_tuple_struct(name: &'static str, length: usize);
        deserialize_map();
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }
}

/// Passes plain values on.
macro_rules! values {
    ($($name:ident($type:ty);)*) => {$(
        fn $name<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$name(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(to)
    }

    values! {
        visit_bool(bool);
        visit_i64(i64);
        visit_i128(i128);
        visit_u64(u64);
        visit_u128(u128);
        visit_f64(f64);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(inner))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(inner))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(fields))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Strict(variant))
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Object<V> {
    type Value = V::Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields.iter().map(|name| format!("`{name}`")).collect();
        match &names[..] {
            [] => write!(to, "an object"),
            [one] => write!(to, "an object with the field {one}"),
            more => write!(to, "an object with the fields {}", more.join(", ")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Strict(fields))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(source))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(Strict(seed))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = A::Error;
    type Variant = Strict<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let (name, variant) = self.0.variant_seed(Strict(seed))?;
        Ok((name, Strict(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Strict(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(length, Strict(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        inner: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Object { inner, fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    struct Outer<'a> {
        name: String,
        #[serde(borrow)]
        args: Option<&'a RawValue>,
        inner: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        by_name: BTreeMap<String, Inner>,
        #[serde(default)]
        choice: Choice,
        any: Option<serde_json::Value>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        n: u32,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Choice {
        #[default]
        None,
        Of(Inner),
        With {
            n: u32,
        },
    }

    fn wrong(text: &str) -> (String, String) {
        match from_slice::<Outer<'_>>(text.as_bytes()).expect_err(text) {
            Wrong::Shape { field, why } => (field, why),
            Wrong::Syntax(why) => ("syntax".into(), why),
        }
    }

    #[test]
    fn what_is_right_is_read_as_ever() {
        let text = r#"{"name":"a\n","args":[{"x": 1}],"inner":{"n":1},"list":[{"n":2}],
            "by_name":{"k":{"n":3}},"choice":{"of":{"n":4}},"any":[[1],{"a":null}],"new":[1]}"#;
        let outer: Outer<'_> = from_slice(text.as_bytes()).unwrap();
        assert_eq!((&*outer.name, outer.args.unwrap().get()), ("a\n", "[{\"x\": 1}]"));
        assert_eq!((outer.inner.unwrap().n, outer.list[0].n, outer.by_name["k"].n), (1, 2, 3));
        assert!(matches!(outer.choice, Choice::Of(Inner { n: 4 })));
        assert_eq!(outer.any.unwrap(), serde_json::json!([[1], { "a": null }]));
        let outer: Outer<'_> = from_slice(br#"{"name":"","choice":{"with":{"n":5}}}"#).unwrap();
        assert!(matches!(outer.choice, Choice::With { n: 5 }));
        let outer: Outer<'_> = from_slice(br#"{"name":"","inner":null}"#).unwrap();
        assert!(outer.inner.is_none() && outer.args.is_none());
    }

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        let fields = "an object with the fields `name`, `args`, `inner`, `list`, `by_name`, ";
        let (field, why) = wrong(r#"["a",1]"#);
        assert_eq!(field, "");
        assert!(why.starts_with(&format!("found an array, expected {fields}")), "{why}");
        for (text, place) in [
            (r#"{"name":"a","inner":[1]}"#, "inner"),
            (r#"{"name":"a","list":[{"n":1},[1]]}"#, "list[1]"),
            (r#"{"name":"a","by_name":{"k":[1]}}"#, "by_name.k"),
            (r#"{"name":"a","choice":{"of":[1]}}"#, "choice.of"),
            (r#"{"name":"a","choice":{"with":[1]}}"#, "choice.with"),
        ] {
            let (field, why) = wrong(text);
            assert!(field.starts_with(place), "{field}");
            let told = "found an array, expected an object with the field `n` at line 1 column ";
            assert!(why.starts_with(told), "{why}");
        }
    }

    #[test]
    fn errors_are_in_words_of_json() {
        for (text, place, told) in [
            (r#"{"name":3}"#, "name", "found integer `3`, expected a string at line 1"),
            (r#"{"name":["\n"]}"#, "name", "found an array, expected a string"),
            (r#"{"name":"a","list":{}}"#, "list", "found an object, expected an array"),
            (r#"{"name":"a","by_name":[]}"#, "by_name", "found an array, expected an object"),
            (r#"{"name":"a","inner":{"n":-1}}"#, "inner.n", "found integer `-1`, expected a whole"),
            (r#"{"name":"a","choice":3}"#, "choice", "expected one of the names that it can have"),
            ("{}", "", "missing field `name`"),
            ("null", "", "found null, expected an object with the fields"),
            ("{\"name\"", "syntax", "EOF"),
            ("{\"name\":\"a\"} {}", "syntax", "trailing"),
            ("{\"name\":\"a\",\"choice\":3", "syntax", "expected value"),
        ] {
            let (field, why) = wrong(text);
            assert_eq!(field, place, "{text}");
            assert!(why.starts_with(told), "{text}: {why}");
        }
    }
}
