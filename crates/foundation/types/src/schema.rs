//! JSON Schemas of the types whose wire form is a string.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{Currency, Id, IdKind, LeafIndex, Money, PrincipalName, Quantity};

impl<K: IdKind> JsonSchema for Id<K> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}_id", K::PREFIX).into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": format!("^{}_[0-9a-f]{{32}}$", K::PREFIX) })
    }
}

impl JsonSchema for PrincipalName {
    fn schema_name() -> Cow<'static, str> {
        "PrincipalName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$" })
    }
}

impl JsonSchema for Currency {
    fn schema_name() -> Cow<'static, str> {
        "Currency".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Z]{3}$", "description": "ISO 4217" })
    }
}

impl JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "An exact decimal amount in one currency.",
            "properties": {
                "amount": { "type": "string", "pattern": "^-?[0-9]+([.][0-9]+)?$" },
                "currency": generator.subschema_for::<Currency>(),
            },
            "required": ["amount", "currency"],
            "additionalProperties": false,
        })
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Money, or units of what is done.",
            "oneOf": [
                generator.subschema_for::<Money>(),
                {
                    "type": "object",
                    "properties": {
                        "units": { "type": "integer", "minimum": 0, "maximum": Self::MAX_UNITS },
                    },
                    "required": ["units"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

impl JsonSchema for LeafIndex {
    fn schema_name() -> Cow<'static, str> {
        "LeafIndex".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0 })
    }
}
