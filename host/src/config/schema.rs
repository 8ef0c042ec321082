//! The JSON schema of the file, for editors and for the reference.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::Config;
use super::address::Address;
use super::origin::Origin;
use super::upstream::Upstream;

/// The JSON schema of `fanfare.toml`, in draft 7: the one that the TOML editors know.
pub fn schema() -> Value {
    let root = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<Config>();
    let mut schema = root.to_value();
    tidy(&mut schema);
    // Whether maps keep their order is a feature that any crate of a build may turn on.
    schema.sort_all_objects();
    schema
}

/// Takes out what is of no use to an editor: nulls, which TOML does not have, the names of Rust's types, and the
/// line breaks of the source.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".into(), one);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [one] = choices.as_slice() {
                    let one = Value::Array(vec![one.clone()]);
                    object.remove("anyOf");
                    object.insert("allOf".into(), one);
                }
            }
            if object.get("format").is_some_and(|format| format == "uint") {
                object.remove("format");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            object.values_mut().for_each(tidy);
        }
        Value::Array(values) => values.iter_mut().for_each(tidy),
        _ => {}
    }
}

macro_rules! text_schema {
    ($type:ty, $name:literal, $description:literal, $pattern:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn schema_id() -> Cow<'static, str> {
                concat!("fanfare::config::", $name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

/// What stands in the file where the code has a duration.
pub(super) struct DurationText;
/// What stands in the file where the code has a size.
pub(super) struct SizeText;
/// What stands in the file where the code has a path.
pub(super) struct PathText;
/// What stands in the file where the code has a route.
pub(super) struct RouteText;

// Every pattern lets `${` pass: what an environment variable holds is seen when the file is read.
text_schema!(
    DurationText,
    "Duration",
    "A whole number with a unit: `ms`, `s`, `m` or `h`.",
    r"^(0+|[0-9]+ ?(ms|s|m|h))$|\$\{"
);
text_schema!(
    PathText,
    "Path",
    "A path; a relative one starts at the folder of this file.",
    "^[^\\u0000]+$"
);
text_schema!(
    RouteText,
    "Route",
    "A path that starts with `/` and does not end with it, without query and `%`.",
    r"^/$|^(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+$|\$\{"
);
text_schema!(
    Origin,
    "Origin",
    "An exact origin, such as `https://example.org`, or `*`.",
    r"^\*$|^[A-Za-z][A-Za-z0-9+.-]*://[^/?#@*\\]+$|\$\{"
);
text_schema!(
    Upstream,
    "Upstream",
    "An exact origin of a server, such as `https://api.example.org` or `http://127.0.0.1:8080`.",
    r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@*\\]+$|\$\{"
);
text_schema!(
    Address,
    "Address",
    "A host, and a port unless it is 6379: `redis.example:6379`, `[::1]:6379`.",
    r"^[^/@:\[\]*]+(:[0-9]+)?$|^\[[0-9A-Fa-f:.]+\](:[0-9]+)?$|\$\{"
);

impl JsonSchema for SizeText {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn schema_id() -> Cow<'static, str> {
        "fanfare::config::Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes, or text with a unit: `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`.",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": r"^[0-9]+( ?(B|[kKMG]B|[KMG]iB))?$|\$\{",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::same_as_in_docs;
    use super::*;

    #[test]
    fn the_file_is_what_the_code_generates() {
        let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
        same_as_in_docs("fanfare.schema.json", &text);
    }

    #[test]
    fn keys_have_descriptions_and_defaults() {
        let schema = schema();
        let head = &schema["definitions"]["Listen"]["properties"]["head-bytes"];
        assert_eq!(head["default"], "64KiB");
        assert!(head["description"].as_str().unwrap().contains("head"));
        assert_eq!(
            schema["definitions"]["Listen"]["additionalProperties"],
            false
        );
    }

    #[test]
    fn every_key_has_a_description() {
        fn look(value: &Value, path: &str) {
            let Some(object) = value.as_object() else {
                return;
            };
            if let Some(Value::Object(properties)) = object.get("properties") {
                for (key, property) in properties {
                    let described = property.get("description").is_some();
                    assert!(described || key == "type", "{path}.{key}");
                }
            }
            for (key, value) in object {
                look(value, &format!("{path}.{key}"));
            }
        }
        look(&schema(), "");
    }
}
