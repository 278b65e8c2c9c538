//! `config show`: the configuration in force, as a file that would give it again.

use std::fmt::Write;

use super::Config;
use super::keys::Kind;
use super::layers::Layer;

/// One line per key: `key = value`, then what was understood and, if asked, where it came from.
pub fn show(config: &Config, with_origin: bool) -> String {
    let lines: Vec<(String, String)> = config
        .layers
        .iter()
        .map(|(key, layer)| {
            let origin = with_origin.then(|| layer.origin.to_string());
            let understood = key.understood.map(|understood| understood(&config.settings));
            let notes: Vec<String> = origin.into_iter().chain(understood).collect();
            (format!("{} = {}", key.name, toml_value(key.kind, layer)), notes.join("; "))
        })
        .collect();
    let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (line, note) in lines {
        let written = match note.as_str() {
            "" => writeln!(text, "{line}"),
            note => writeln!(text, "{line:width$}  # {note}"),
        };
        written.expect("a string takes all");
    }
    text
}

fn toml_value(kind: Kind, layer: &Layer) -> String {
    let quoted = |value: &String| toml::Value::String(value.clone()).to_string();
    match (kind, layer.values.as_slice()) {
        (Kind::Switch, [value]) => matches!(value.as_str(), "true" | "1").to_string(),
        (_, [value]) => quoted(value),
        (_, values) => format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    }
}
