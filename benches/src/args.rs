//! `--name value` arguments, enough for programs that only scripts call. An unknown name is an error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use crate::Result;

/// The arguments of this process, each taken at most once by the program.
#[derive(Debug)]
pub struct Args {
    values: BTreeMap<String, Vec<String>>,
}

impl Args {
    /// Reads the arguments after the program's name. `flags` take no value, everything else takes one.
    pub fn parse(args: impl Iterator<Item = String>, flags: &[&str]) -> Result<Self> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut args = args;
        while let Some(arg) = args.next() {
            let Some(name) = arg.strip_prefix("--") else {
                return Err(format!("unexpected argument {arg:?}: arguments are --name value").into());
            };
            let value = if flags.contains(&name) {
                String::new()
            } else {
                args.next().ok_or_else(|| format!("--{name} needs a value"))?
            };
            values.entry(name.to_owned()).or_default().push(value);
        }
        Ok(Self { values })
    }

    /// Whether the flag was given.
    pub fn flag(&mut self, name: &str) -> bool {
        self.values.remove(name).is_some()
    }

    /// The last value of `--name`, if it was given.
    pub fn maybe<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(values) = self.values.remove(name) else {
            return Ok(None);
        };
        let last = values.last().cloned().unwrap_or_default();
        match last.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(format!("--{name} {last}: {error}").into()),
        }
    }

    /// The value of `--name`, or `default`.
    pub fn get<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T> {
        Ok(self.maybe(name)?.unwrap_or(default))
    }

    /// The value of `--name`, which must be there.
    pub fn must<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<T> {
        self.maybe(name)?.ok_or_else(|| format!("--{name} is needed").into())
    }

    /// All values of a repeatable `--name`.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        self.values.remove(name).unwrap_or_default()
    }

    /// Fails if an argument was given that nobody took.
    pub fn finish(self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("unknown argument --{name}").into()),
        }
    }
}
