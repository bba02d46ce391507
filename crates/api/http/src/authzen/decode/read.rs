//! The parts that serde does not read strictly, or not within bounds, by itself.

use std::fmt;
use std::marker::PhantomData;

use creto_governor::{Fact, GrantText, MAX_FACTS, MAX_QUESTIONS, MAX_TEXTS};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A JSON object, and not the array that serde would take for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// At most [`MAX_QUESTIONS`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Batch<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Batch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = Batch<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX_QUESTIONS {
                        return Err(A::Error::custom(format!(
                            "at most {MAX_QUESTIONS} evaluations are allowed"
                        )));
                    }
                    items.push(item);
                }
                Ok(Batch(items))
            }
        }

        deserializer.deserialize_seq(Items(PhantomData))
    }
}

/// The member of a context that carries an approval (Access Request Profile,
/// "Re-evaluation Mode").
const APPROVAL: &str = "approval";

/// A context: at most [`MAX_FACTS`] values, each once, and an approval.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) values: Vec<(String, Given)>,
    pub(super) approval: Option<Box<GivenApproval>>,
}

/// The `approval` of a completed request, as it is handed back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) struct GivenApproval {
    /// The request that was approved.
    pub(super) id: String,
    #[serde(default)]
    pub(super) state: Option<Object<ApprovalState>>,
}

/// What a decision point needs of its own approval; for the agent alone, and for it
/// to hand back unread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ApprovalState {
    /// Opens what was approved, once.
    pub(crate) grant: GrantText,
}

impl<'de> Deserialize<'de> for Facts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Facts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Facts, A::Error> {
                let mut facts = Facts::default();
                let duplicate = |name: &str| A::Error::custom(format!("duplicate field `{name}`"));
                while let Some(name) = map.next_key::<String>()? {
                    if name == APPROVAL {
                        let Object(approval) = map.next_value()?;
                        if facts.approval.replace(Box::new(approval)).is_some() {
                            return Err(duplicate(APPROVAL));
                        }
                        continue;
                    }
                    if facts.values.len() == MAX_FACTS {
                        return Err(A::Error::custom(format!(
                            "at most {MAX_FACTS} values are allowed"
                        )));
                    }
                    if facts.values.iter().any(|(known, _)| *known == name) {
                        return Err(duplicate(&name));
                    }
                    facts.values.push((name, map.next_value()?));
                }
                Ok(facts)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// A value of the context, as far as it can be used.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    Fact(Fact),
    /// Something else: what it is.
    Unusable(&'static str),
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Given, E> {
        Ok(Given::Fact(Fact::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Given, E> {
        Ok(Given::Fact(Fact::Long(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Given, E> {
        Ok(
            i64::try_from(value).map_or(Given::Unusable("too large"), |value| {
                Given::Fact(Fact::Long(value))
            }),
        )
    }

    fn visit_f64<E>(self, _: f64) -> Result<Given, E> {
        Ok(Given::Unusable("not a whole number of 64 bits"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Given, E> {
        Ok(Given::Fact(Fact::Text(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Given, E> {
        Ok(Given::Fact(Fact::Text(value)))
    }

    fn visit_unit<E>(self) -> Result<Given, E> {
        Ok(Given::Unusable("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Given, A::Error> {
        let mut texts = Vec::new();
        let mut usable = true;
        while usable && texts.len() < MAX_TEXTS {
            match seq.next_element::<Given>()? {
                Some(Given::Fact(Fact::Text(text))) => texts.push(text),
                Some(_) => usable = false,
                None => return Ok(Given::Fact(Fact::Texts(texts))),
            }
        }
        let mut more = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(match (usable, more) {
            (false, _) => Given::Unusable("an array of something else than strings"),
            (true, true) => Given::Unusable("too long an array"),
            (true, false) => Given::Fact(Fact::Texts(texts)),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Given::Unusable("an object"))
    }
}

pub(super) fn batch_schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let items = generator.subschema_for::<T>();
    json_schema!({ "type": "array", "maxItems": MAX_QUESTIONS, "items": items })
}

pub(super) fn context_schema(generator: &mut SchemaGenerator) -> Schema {
    let approval = generator.subschema_for::<GivenApproval>();
    json_schema!({
        "type": "object",
        "maxProperties": MAX_FACTS + 1,
        "properties": { APPROVAL: approval },
    })
}

pub(super) fn units_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1 })
}
