//! The language as a JSON Schema, for editors.
//!
//! It is made from the same table of words as the parser, so that an editor proposes what the parser accepts.
//! It says what has which shape; what a schema cannot say (shares that sum, names that exist) the check says.

use serde_json::{Map, Value, json};

use super::words::{self, Operand, Operator};
use crate::limits;

/// The JSON Schema (draft 2020-12) of a file of definitions.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "flagd definitions",
        "description": "Flags and segments of one environment",
        "type": "object",
        "properties": properties(words::FILE, |name| match name {
            "flags" => named("#/$defs/flag"),
            "segments" => named("#/$defs/segment"),
            _ => json!({ "type": "string", "description": "Ignored; for editors" }),
        }),
        "additionalProperties": false,
        "$defs": {
            "key": {
                "type": "string", "maxLength": limits::KEY_MAX_BYTES, "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]*$",
            },
            "attributeName": { "type": "string", "minLength": 1, "maxLength": limits::OPERAND_MAX_BYTES },
            "percentage": {
                "type": "number", "minimum": 0, "maximum": 100, "description": "At most four decimals",
            },
            "flag": object(words::FLAG, &[], flag_member),
            "segment": object(words::SEGMENT, &[], segment_member),
            "requirement": object(words::REQUIREMENT, words::REQUIREMENT, |name| match name {
                "serves" => json!({
                    "type": "array", "minItems": 1, "maxItems": limits::VARIANTS_MAX, "items": { "$ref": "#/$defs/key" },
                }),
                _ => reference("key"),
            }),
            "rule": object(words::RULE, words::RULE, |name| match name {
                "name" => json!({ "type": "string", "minLength": 1, "maxLength": limits::KEY_MAX_BYTES }),
                "if" => reference("condition"),
                _ => reference("serve"),
            }),
            "serve": {
                "description": "The name of a variant, or a split",
                "anyOf": [ { "$ref": "#/$defs/key" }, object(words::SPLIT, &["split"], split_member) ],
            },
            "scalar": { "type": ["string", "number", "boolean"] },
            "texts": {
                "anyOf": [
                    { "type": "string", "minLength": 1, "maxLength": limits::OPERAND_MAX_BYTES },
                    {
                        "type": "array", "minItems": 1, "maxItems": limits::OPERANDS_MAX,
                        "items": { "type": "string", "minLength": 1, "maxLength": limits::OPERAND_MAX_BYTES },
                    },
                ],
            },
            "moment": { "type": "string", "format": "date-time" },
            "condition": condition(),
        },
    })
}

fn properties(names: &[&str], schema: impl Fn(&str) -> Value) -> Value {
    Value::Object(names.iter().map(|name| ((*name).to_owned(), schema(name))).collect::<Map<_, _>>())
}

fn object(names: &[&str], required: &[&str], schema: impl Fn(&str) -> Value) -> Value {
    let mut made =
        json!({ "type": "object", "properties": properties(names, schema), "additionalProperties": false });
    if let (false, Some(members)) = (required.is_empty(), made.as_object_mut()) {
        members.insert("required".to_owned(), json!(required));
    }
    made
}

fn named(definition: &str) -> Value {
    json!({ "type": "object", "propertyNames": { "$ref": "#/$defs/key" }, "additionalProperties": { "$ref": definition } })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

fn list(max: usize, of: &str) -> Value {
    json!({ "type": "array", "maxItems": max, "items": reference(of) })
}

fn about_member(name: &str) -> Value {
    let label = json!({ "type": "string", "minLength": 1, "maxLength": limits::LABEL_MAX_BYTES });
    match name {
        "description" => {
            json!({ "type": "string", "minLength": 1, "maxLength": limits::DESCRIPTION_MAX_BYTES })
        }
        "tags" => {
            json!({ "type": "array", "uniqueItems": true, "maxItems": limits::TAGS_MAX, "items": label })
        }
        "metadata" => json!({ "type": "object", "description": "Anything else, kept as it is" }),
        _ => label,
    }
}

fn flag_member(name: &str) -> Value {
    match name {
        "variants" => json!({
            "description": "Names and values, all of one type; on (true) and off (false) when left out",
            "type": "object", "minProperties": 1, "maxProperties": limits::VARIANTS_MAX,
            "propertyNames": { "$ref": "#/$defs/key" },
            "additionalProperties": { "type": ["boolean", "string", "number", "object", "array"] },
        }),
        "offVariant" => {
            json!({ "$ref": "#/$defs/key", "description": "What a killed or disabled flag serves" })
        }
        "enabled" => json!({ "type": "boolean", "default": true }),
        "salt" => json!({
            "description": "What is hashed with the unit; the key when left out; never changes",
            "type": "string", "minLength": 1, "maxLength": limits::SALT_MAX_BYTES,
        }),
        "requires" => list(limits::REQUIRES_MAX, "requirement"),
        "rules" => list(limits::RULES_MAX, "rule"),
        "otherwise" => reference("serve"),
        "rollout" => {
            json!({ "$ref": "#/$defs/percentage", "description": "Short for an on/off split in `otherwise`" })
        }
        _ => about_member(name),
    }
}

fn segment_member(name: &str) -> Value {
    match name {
        "by" => reference("attributeName"),
        "include" | "exclude" => json!({
            "type": "array", "maxItems": limits::SEGMENT_UNITS_MAX,
            "items": { "type": "string", "minLength": 1, "maxLength": limits::UNIT_MAX_BYTES },
        }),
        "if" => reference("condition"),
        _ => about_member(name),
    }
}

fn split_member(name: &str) -> Value {
    if name == "by" {
        return reference("attributeName");
    }
    let shares = json!({
        "type": "object", "propertyNames": { "$ref": "#/$defs/key" }, "minProperties": 1,
        "additionalProperties": { "$ref": "#/$defs/percentage" },
    });
    let mut stretch = shares.clone();
    if let Some(members) = stretch.as_object_mut() {
        members.insert("maxProperties".to_owned(), json!(1));
    }
    json!({
        "description": "Shares in percent that sum to 100, or stretches in order",
        "anyOf": [ shares, { "type": "array", "minItems": 1, "maxItems": limits::STRETCHES_MAX, "items": stretch } ],
    })
}

fn condition() -> Value {
    let conditions = json!({ "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/condition" } });
    let mut kinds: Vec<Value> = Vec::new();
    for name in words::CONDITION.iter().filter(|name| **name != "attribute") {
        let schema = match *name {
            "all" | "any" => conditions.clone(),
            "not" => reference("condition"),
            "segment" => reference("key"),
            _ => {
                let mut window = object(words::TIME, &[], |_| reference("moment"));
                if let Some(members) = window.as_object_mut() {
                    members.insert("minProperties".to_owned(), json!(1));
                }
                window
            }
        };
        kinds.push(object(&[name], &[name], |_| schema.clone()));
    }
    for operator in words::OPERATORS {
        let mut names = vec!["attribute", operator.name()];
        let required = names.clone();
        if operator.knows_case() {
            names.push(words::IGNORE_CASE);
        }
        kinds.push(object(&names, &required, |name| match name {
            "attribute" => reference("attributeName"),
            words::IGNORE_CASE => json!({ "type": "boolean", "default": false }),
            _ => operand(operator),
        }));
    }
    json!({ "oneOf": kinds })
}

fn operand(operator: Operator) -> Value {
    match operator.operand() {
        Operand::Scalar => reference("scalar"),
        Operand::Scalars => json!({
            "type": "array", "minItems": 1, "maxItems": limits::OPERANDS_MAX, "items": { "$ref": "#/$defs/scalar" },
        }),
        Operand::Texts | Operand::Networks => reference("texts"),
        Operand::Pattern => json!({ "type": "string", "minLength": 1, "maxLength": limits::REGEX_MAX_BYTES }),
        Operand::Number => json!({ "type": "number" }),
        Operand::Moment => reference("moment"),
        Operand::Requirement => json!({ "type": "string", "minLength": 1, "examples": [">=2.3.0, <3"] }),
        Operand::Presence => json!({ "type": "boolean" }),
    }
}
