//! The reference of the file: a page made from the schema, so that it says what the code does.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::schema::schema;

const INTRO: &str = include_str!("reference.md");
const EXAMPLE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/fanfare.example.toml"
));

/// The page `docs/configuration.md`, in Markdown.
pub fn reference() -> String {
    let schema = schema();
    let page = Page { root: &schema };
    let mut text = INTRO.to_owned();
    // In the order in which a reader meets them, and not in that of the alphabet.
    for section in ["node", "listen", "admin", "log", "redis", "brokers", "apps"] {
        page.section(section, &schema["properties"][section], &mut text);
    }
    // The schema is the code's own; writing to a text does not fail.
    let _ = write!(
        text,
        "\n## A whole file\n\n```toml\n{}\n```\n",
        EXAMPLE.trim_end()
    );
    text
}

struct Page<'s> {
    root: &'s Value,
}

impl<'s> Page<'s> {
    /// The definition that a schema refers to, or the schema itself.
    fn resolve(&self, schema: &'s Value) -> &'s Value {
        self.name(schema)
            .map_or(schema, |name| &self.root["definitions"][name])
    }

    /// The name of the definition that a schema refers to. Draft 7 lets nothing stand beside a reference, so
    /// that it hides in an `allOf` where there is more to say.
    fn name(&self, schema: &'s Value) -> Option<&'s str> {
        let schema = schema["allOf"].get(0).unwrap_or(schema);
        schema["$ref"].as_str()?.strip_prefix("#/definitions/")
    }

    fn section(&self, path: &str, schema: &'s Value, text: &mut String) {
        let table = self.resolve(schema);
        if table["additionalProperties"].is_object() {
            let each = &table["additionalProperties"];
            let inner = self.resolve(each);
            if is_table(inner) || is_choice_of_tables(inner) {
                self.section(&format!("{path}.<name>"), each, text);
            } else {
                self.heading(path, schema, text);
                let row = format!("| *any* | {} | | |\n", self.label(each));
                text.push_str(&(String::from(TABLE_HEAD) + &row));
            }
        } else if is_choice_of_tables(table) {
            self.heading(path, table, text);
            for variant in array(&table["oneOf"]) {
                let tag = code(&variant["properties"]["type"]["const"]);
                let _ = write!(text, "\nWith `type = {tag}`: {}\n", description(variant));
                self.rows(variant, &["type"], text);
            }
        } else {
            self.heading(path, table, text);
            self.rows(table, &[], text);
            for (key, property) in properties(table) {
                if self.is_section(property) {
                    self.section(&format!("{path}.{key}"), property, text);
                }
            }
        }
    }

    fn heading(&self, path: &str, described: &Value, text: &mut String) {
        let _ = write!(text, "\n## `[{path}]`\n\n{}\n", description(described));
    }

    fn is_section(&self, property: &'s Value) -> bool {
        let schema = self.resolve(property);
        is_table(schema) || schema["additionalProperties"].is_object()
    }

    /// The keys of a table, those that must be given first.
    fn rows(&self, table: &'s Value, except: &[&str], text: &mut String) {
        let required = array(&table["required"]);
        let mut rows: Vec<(bool, &String, &Value)> = properties(table)
            .filter(|(key, property)| !except.contains(&key.as_str()) && !self.is_section(property))
            .map(|(key, property)| {
                let optional = !required.iter().any(|name| name.as_str() == Some(key));
                (optional, key, property)
            })
            .collect();
        if rows.is_empty() {
            return;
        }
        rows.sort_by_key(|(optional, key, _)| (*optional, *key));
        text.push_str(TABLE_HEAD);
        for (optional, key, property) in rows {
            let default = match property.get("default") {
                Some(default) => format!("`{}`", code(default)),
                None if optional => "none".to_owned(),
                None => "**required**".to_owned(),
            };
            let (label, said) = (self.label(property), description(property));
            let said = said.replace('|', "\\|");
            let _ = writeln!(text, "| `{key}` | {label} | {default} | {said} |");
        }
    }

    /// What kind of value it is.
    fn label(&self, schema: &'s Value) -> String {
        let name = self.name(schema);
        let schema = self.resolve(schema);
        if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
            let labels: Vec<String> = choices.iter().map(|choice| self.label(choice)).collect();
            return labels.join(" or ");
        }
        if let Some(constant) = schema.get("const") {
            return format!("`{}`", code(constant));
        }
        if is_table(schema) {
            let keys: Vec<&str> = properties(schema).map(|(key, _)| key.as_str()).collect();
            return format!("table of `{}`", keys.join("`, `"));
        }
        match (name, schema["type"].as_str()) {
            (Some(name), _) => name.to_lowercase(),
            (None, Some("array")) => format!("list of {}", self.label(&schema["items"])),
            (None, Some("boolean")) => "`true` or `false`".to_owned(),
            (None, Some("integer")) => "number".to_owned(),
            _ => "text".to_owned(),
        }
    }
}

const TABLE_HEAD: &str = "\n| Key | Value | Default | |\n|---|---|---|---|\n";

fn is_table(schema: &Value) -> bool {
    schema["properties"].is_object()
}

fn is_choice_of_tables(schema: &Value) -> bool {
    schema["oneOf"].get(0).is_some_and(is_table)
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn properties(table: &Value) -> impl Iterator<Item = (&String, &Value)> {
    table["properties"]
        .as_object()
        .into_iter()
        .flat_map(Map::iter)
}

/// A value as TOML writes it: of texts, numbers and lists of them, that is how JSON does.
fn code(value: &Value) -> String {
    value.to_string()
}

fn description(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::same_as_in_docs;
    use super::*;

    #[test]
    fn the_page_is_what_the_code_generates() {
        same_as_in_docs("configuration.md", &reference());
    }

    #[test]
    fn every_key_is_on_the_page() {
        let (schema, page) = (schema(), reference());
        let tables = schema["definitions"].as_object().unwrap().values();
        for (key, _) in tables.flat_map(properties) {
            assert!(page.contains(key.as_str()), "{key}");
        }
        for section in ["listen.tls", "apps.<name>.limits", "brokers.<name>"] {
            assert!(page.contains(&format!("## `[{section}]`")), "{section}");
        }
    }
}
