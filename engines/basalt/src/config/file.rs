//! The configuration file: TOML to key names, values and line numbers. Knows no key's meaning.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::Kind;
use crate::error::Error;

/// A configuration larger than this is not one: someone named a data file or a device.
const FILE_SIZE_BYTES_MAX: u64 = 1 << 20;

/// One assignment of the file, with tables flattened to dotted names.
#[derive(Debug)]
pub struct Assignment<'i> {
    /// `log-level`, or `table.key` inside a table.
    pub name: String,
    /// The line of the key, from 1.
    pub line: usize,
    value: DeValue<'i>,
}

impl Assignment<'_> {
    /// The values as strings, if the TOML value has a shape that `kind` allows.
    pub fn values(&self, kind: Kind) -> Result<Vec<String>, String> {
        let values = match (kind, &self.value) {
            (Kind::Names, DeValue::String(text)) => {
                Some(text.split(',').map(|name| name.trim().to_owned()).collect())
            }
            (Kind::Text | Kind::Size | Kind::Paths, DeValue::String(text)) => {
                Some(vec![text.clone().into_owned()])
            }
            (Kind::Size, DeValue::Integer(number)) => {
                let bytes = u64::from_str_radix(number.as_str(), number.radix());
                Some(vec![bytes.map_or_else(|_| number.to_string(), |bytes| bytes.to_string())])
            }
            (Kind::Switch, DeValue::Boolean(on)) => Some(vec![on.to_string()]),
            (Kind::Names | Kind::Paths, DeValue::Array(items)) => {
                items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
            }
            _ => None,
        };
        values.ok_or_else(|| format!("expects {}, found {}", kind.expected(), self.found()))
    }

    /// A number, a string, true or false as it is written.
    pub fn scalar(&self) -> Result<String, String> {
        match &self.value {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
            DeValue::Float(number) => Ok(number.as_str().to_owned()),
            DeValue::Boolean(on) => Ok(on.to_string()),
            _ => Err(format!("expects a number, found {}", self.found())),
        }
    }

    fn found(&self) -> &'static str {
        match self.value {
            DeValue::Array(_) => "an array of something else",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Table(_) => "a table",
            DeValue::String(_) => "a string",
        }
    }
}

/// Reads the file at `path`.
pub fn read(path: &Path) -> Result<String, Error> {
    let failed = |error: std::io::Error| {
        Error::config(format!("cannot read the configuration file {}", path.display())).why(error)
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_SIZE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > FILE_SIZE_BYTES_MAX {
        let what = format!("the configuration file {} is no configuration", path.display());
        return Err(Error::config(what).why("it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Parses the text into assignments in the order of their lines; the error carries the line.
pub fn parse(text: &str) -> Result<Vec<Assignment<'_>>, (usize, String)> {
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (line_at(text, at), error.message().to_owned())
    })?;
    let mut assignments = Vec::new();
    flatten(text, "", table.into_inner(), &mut assignments);
    assignments.sort_by_key(|assignment| assignment.line);
    Ok(assignments)
}

fn flatten<'i>(text: &str, prefix: &str, table: DeTable<'i>, into: &mut Vec<Assignment<'i>>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let line = line_at(text, key.span().start);
        match Spanned::into_inner(value) {
            DeValue::Table(inner) => flatten(text, &format!("{name}."), inner, into),
            value => into.push(Assignment { name, line, value }),
        }
    }
}

/// The line, from 1, of the byte at `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    before.iter().filter(|&&byte| byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_carry_their_lines() {
        let text = "# head\nmemory = \"1GiB\"\n\n[log]\nlevel = 'debug'\n";
        let assignments = parse(text).expect("valid");
        let seen: Vec<_> = assignments.iter().map(|a| (a.name.as_str(), a.line)).collect();
        assert_eq!(seen, [("memory", 2), ("log.level", 5)]);
        assert_eq!(assignments[0].values(Kind::Size), Ok(vec!["1GiB".to_owned()]));
    }

    #[test]
    fn shapes_are_checked() {
        let text = "a = 4096\nb = true\nc = ['x', 'y']\nd = 'x, y'\ne = 0x10\nf = -1\n";
        let assignments = parse(text).expect("valid");
        let values = |at: usize, kind| assignments[at].values(kind).map(|values| values.join("|"));
        assert_eq!(values(0, Kind::Size).as_deref(), Ok("4096"));
        assert!(values(0, Kind::Text).expect_err("type").contains("found a number"));
        assert_eq!(values(1, Kind::Switch).as_deref(), Ok("true"));
        assert!(values(1, Kind::Size).is_err());
        assert_eq!(values(2, Kind::Paths).as_deref(), Ok("x|y"));
        assert_eq!(values(3, Kind::Names).as_deref(), Ok("x|y"));
        assert_eq!(values(3, Kind::Paths).as_deref(), Ok("x, y"));
        assert_eq!(values(4, Kind::Size).as_deref(), Ok("16"));
        assert_eq!(values(5, Kind::Size).as_deref(), Ok("-1"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let (line, message) = parse("memory = \"1GiB\"\nbroken\n").expect_err("syntax");
        assert_eq!(line, 2, "{message}");
    }
}
