//! Templates of `--format`: text with fields of a result in it, `{{.program_id}} {{.bpf_function}}`.
//!
//! The syntax is the part of Go's templates that is typed for podman and docker: a field, a field of a field, and
//! `json`. There are no conditions, loops or functions: `--output json` and jq have those.

use std::str::FromStr;

use bytecode_image::printable::{escaped, escaped_json};
use serde_json::Value;

use super::suggest::nearest;

/// Fields of programs and links at their first level, as JSON names them.
pub(crate) const FIELDS: [&str; 45] = [
    "application",
    "attach_function",
    "attachment",
    "bpf_function",
    "bpfman_state",
    "btf_id",
    "gone",
    "global",
    "gpl_compatible",
    "id",
    "image_digest",
    "image_url",
    "jitted",
    "kernel_allocated_memory",
    "kernel_state",
    "kernel_type",
    "link_id",
    "links",
    "loaded_at",
    "managed",
    "map_ids",
    "map_owner_id",
    "map_pin_path",
    "maps_used_by",
    "metadata",
    "path",
    "program_id",
    "program_type",
    "pull_policy",
    "size_jitted",
    "size_translated",
    "tag",
    "verified_instruction_count",
    // Of attachments, for which `.attachment` may be left out.
    "direction",
    "function",
    "ifindex",
    "interface",
    "interface_at_attach",
    "mode",
    "network_namespace_inode",
    "network_namespace",
    "position",
    "priority",
    "target",
    "tracepoint",
];

/// Objects whose fields need not be named by their path: `.bpf_function` is one field for `load` and for `list`.
const OPEN: [&str; 3] = ["bpfman_state", "kernel_state", "attachment"];

/// A template that can be filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { path: Vec<String>, json: bool },
}

/// Why a template cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("`{{{{` without `}}}}`")]
    Open,
    #[error(
        "`{{{{{0}}}}}`: expected a field, as in `{{{{.program_id}}}}`, or `{{{{json .metadata}}}}`"
    )]
    Expression(String),
    #[error("no field `{field}`{}; there are {}", did_you_mean(*near), FIELDS.join(", "))]
    Field {
        field: String,
        near: Option<&'static str>,
    },
}

fn did_you_mean(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(": did you mean `{near}`?"))
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (expression, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            parts.push(Part::Text(unescape(before)));
            parts.push(field(expression)?);
            rest = after;
        }
        parts.push(Part::Text(unescape(rest)));
        Ok(Self(parts))
    }
}

impl Template {
    /// The template with the fields of one result, and a line end. `id` names the field that `.ID` stands for. A
    /// field that this result does not have is nothing.
    pub(crate) fn fill(&self, result: &Value, id: &str) -> String {
        let mut line = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => line.push_str(text),
                Part::Field { path, json } => {
                    let found = look_up(result, path, id);
                    line.push_str(&match (found, json) {
                        (Some(value), true) => escaped_json(&value.to_string()).into_owned(),
                        (Some(value), false) => escaped(&plain(value)).into_owned(),
                        (None, true) => Value::Null.to_string(),
                        (None, false) => String::new(),
                    });
                }
            }
        }
        line.push('\n');
        line
    }
}

fn field(expression: &str) -> Result<Part, TemplateError> {
    let wrong = || TemplateError::Expression(expression.to_owned());
    let words: Vec<&str> = expression.split_whitespace().collect();
    let (words, json) = match words.as_slice() {
        ["json", word] => (*word, true),
        [word] => (*word, false),
        _ => return Err(wrong()),
    };
    let path = words.strip_prefix('.').ok_or_else(wrong)?;
    let path: Vec<String> = if path.is_empty() {
        Vec::new()
    } else {
        let mut keys = Vec::new();
        for (depth, key) in path.split('.').enumerate() {
            if key.is_empty() || key.contains(|c: char| c.is_control() || c == '"') {
                return Err(wrong());
            }
            // Keys of metadata are the user's own.
            let known = depth == 0 || keys.first().is_some_and(|first| first != "metadata");
            keys.push(if known {
                snake_case(key)
            } else {
                key.to_owned()
            });
        }
        keys
    };
    if let Some(first) = path.first()
        && !FIELDS.contains(&first.as_str())
    {
        return Err(TemplateError::Field {
            field: first.clone(),
            near: nearest(first, FIELDS),
        });
    }
    Ok(Part::Field { path, json })
}

fn look_up<'v>(result: &'v Value, path: &[String], id: &str) -> Option<&'v Value> {
    let Some((first, rest)) = path.split_first() else {
        return Some(result);
    };
    let first = if first == "id" { id } else { first };
    let open = OPEN
        .iter()
        .filter_map(|object| result.get(object)?.get(first));
    let found = result.get(first).into_iter().chain(open).next()?;
    rest.iter().try_fold(found, |value, key| value.get(key))
}

/// As people read it: text without quotes, lists with commas, nothing for what is absent.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// `ProgramID` and `program_id` name the same field: podman's templates are typed in the former way.
fn snake_case(key: &str) -> String {
    let letters: Vec<char> = key.chars().collect();
    let mut name = String::new();
    for (at, letter) in letters.iter().enumerate() {
        if letter.is_ascii_uppercase() {
            let before = at.checked_sub(1).and_then(|before| letters.get(before));
            let after = letters.get(at + 1);
            let begins = before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase))
            });
            if begins {
                name.push('_');
            }
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// `\n`, `\t` and `\\`, which shells leave as they are.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('\\') | None => plain.push('\\'),
            Some(other) => plain.extend(['\\', other]),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str, value: &Value) -> String {
        template
            .parse::<Template>()
            .unwrap()
            .fill(value, "program_id")
    }

    #[test]
    fn templates_are_filled_in() {
        let program = json!({
            "program_id": 7,
            "bpfman_state": {
                "bpf_function": "count_packets",
                "application": null,
                "metadata": {"Owner": "acme"},
                "maps_used_by": [7, 8],
                "links": [{"link_id": 1}],
            },
            "kernel_state": {"bpf_function": "count_pa", "gpl_compatible": true},
        });
        for (template, expected) in [
            ("{{.program_id}}", "7\n"),
            ("{{ .ProgramID }} {{.BpfFunction}}", "7 count_packets\n"),
            ("{{.ID}}\\t{{.BPFFunction}}", "7\tcount_packets\n"),
            ("{{.kernel_state.bpf_function}}", "count_pa\n"),
            ("{{.GplCompatible}}", "true\n"),
            ("[{{.application}}]", "[]\n"),
            ("{{.metadata.Owner}}", "acme\n"),
            ("{{.metadata.none}}", "\n"),
            ("{{json .metadata}}", "{\"Owner\":\"acme\"}\n"),
            ("{{.maps_used_by}}", "7,8\n"),
            ("{{.links}}", "[{\"link_id\":1}]\n"),
            ("{{json .link_id}}", "null\n"),
            ("no field", "no field\n"),
            ("", "\n"),
            ("\\\\{{.id}}\\", "\\7\\\n"),
        ] {
            assert_eq!(fill(template, &program), expected, "{template}");
        }
        assert_eq!(fill("{{json .}}", &json!({"a": 1})), "{\"a\":1}\n");
        // What a terminal would obey is escaped, in JSON as JSON has it.
        let hostile = json!({"metadata": {"k": "a\u{9b}\n\u{202e}b"}});
        assert_eq!(fill("{{.metadata.k}}", &hostile), "a\\u{9b}\\n\\u{202e}b\n");
        assert_eq!(
            fill("{{json .metadata.k}}", &hostile),
            "\"a\\u009b\\n\\u202eb\"\n"
        );
        let link = json!({"link_id": 5, "attachment": {"interface": "eth0"}});
        let template: Template = "{{.ID}} {{.interface}}".parse().unwrap();
        assert_eq!(template.fill(&link, "link_id"), "5 eth0\n");
    }

    /// The golden files have every field of every result that takes a template.
    #[test]
    fn every_field_of_a_result_has_a_name_here() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tables");
        let mut seen = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if !["load-", "list-", "get-"]
                .iter()
                .any(|kind| name.starts_with(kind))
                || !name.ends_with(".json")
            {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let results = match serde_json::from_str(&text).unwrap() {
                Value::Array(results) => results,
                result => vec![result],
            };
            for result in results {
                let objects = OPEN.iter().filter_map(|object| result.get(object));
                for object in objects.chain([&result]).filter_map(Value::as_object) {
                    for key in object.keys().filter(|key| !NESTED.contains(&key.as_str())) {
                        assert!(FIELDS.contains(&key.as_str()), "{name}: {key}");
                        seen += 1;
                    }
                }
            }
        }
        assert!(seen > 100, "{seen}");
    }

    /// Fields of some attachments that are reached as `.attachment.pid`.
    const NESTED: [&str; 6] = [
        "type",
        "proceed_on",
        "offset",
        "retprobe",
        "pid",
        "container_pid",
    ];

    #[test]
    fn wrong_templates_say_what_is_wrong() {
        for (template, expected) in [
            ("{{.program_id", "`{{` without `}}`"),
            ("{{program_id}}", "`{{program_id}}`: expected a field"),
            ("{{}}", "`{{}}`: expected a field"),
            ("{{.a..b}}", "`{{.a..b}}`: expected a field"),
            ("{{range .links}}", "`{{range .links}}`: expected a field"),
            (
                "{{.progam_id}}",
                "no field `progam_id`: did you mean `program_id`?; there are",
            ),
            ("{{.zzz}}", "no field `zzz`; there are application, "),
        ] {
            let error = template.parse::<Template>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{template}: {error}");
        }
    }
}
