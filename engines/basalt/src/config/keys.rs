//! Every key of the configuration, once: its name, value, default, help, and how it is read.
//!
//! The flag (`--memory`), the environment variable (`BASALT_MEMORY`), the line of the file
//! (`memory = "4GiB"`), the help text, the layering and `config show` all derive from these tables.
//!
//! | file | holds |
//! |---|---|
//! | `machine` | the keys under `Machine`: what the node has of its machine, and how it keeps what is stored there |
//! | `listeners` | the keys under `Listeners`: where clients are heard, and which |
//! | `origins` | the keys under `Origins`: where the caching proxy and `fetch` get things, and for how long they are kept |
//! | `mounts` | the keys under `Mounts`: blobs as files |
//! | `logs` | the keys under `Logs`: what the node says of itself |
//! | `values` | how the text of a value is read |

use super::Settings;

mod listeners;
mod logs;
mod machine;
mod mounts;
mod origins;
mod values;

/// The shape of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One string.
    Text,
    /// A string, or a whole number of bytes.
    Size,
    /// `true` or `false`; as a flag, its presence.
    Switch,
    /// Names: an array, or one string with commas; as a flag, repeatable.
    Names,
    /// Paths: an array, or one string taken whole; as a flag, repeatable.
    Paths,
}

impl Kind {
    /// What to call the expected value in an error about the file.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Size => "a size: a string such as \"4GiB\" or a number of bytes",
            Self::Switch => "true or false",
            Self::Names | Self::Paths => "a string or an array of strings",
        }
    }
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The key in the file; the flag and the variable are derived from it.
    pub name: &'static str,
    /// The value's placeholder in help.
    pub value_name: &'static str,
    /// The value's shape.
    pub kind: Kind,
    /// The value when nobody sets it, in the same syntax as the environment's.
    pub default: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// The heading the flag stands under in help.
    pub heading: &'static str,
    /// Reads the value into the settings; the error says what is wrong with it.
    pub set: fn(&mut Settings, &[String]) -> Result<(), String>,
    /// What the value was understood as on this machine, where that differs from its text.
    pub understood: Option<fn(&Settings) -> String>,
}

impl Key {
    /// The environment variable: `BASALT_BLOB_LISTEN` for `blob-listen`.
    pub fn env(&self) -> String {
        let name = self.name.to_ascii_uppercase().replace(['-', '.'], "_");
        format!("BASALT_{name}")
    }

    /// Cuts one string, as the environment has it, into this key's values.
    pub fn split(&self, text: &str) -> Vec<String> {
        match self.kind {
            Kind::Names => text.split(',').map(|name| name.trim().to_owned()).collect(),
            _ => vec![text.to_owned()],
        }
    }
}

/// The key called `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.into_iter().find(|key| key.name == name)
}

/// The tables, in the order in which help and `config show` list them; each is a file.
const TABLES: [&[Key]; 5] = [machine::KEYS, listeners::KEYS, origins::KEYS, mounts::KEYS, logs::KEYS];

/// All keys, table after table.
pub static KEYS: [&Key; count()] = all();

const fn count() -> usize {
    let (mut count, mut table) = (0, 0);
    while table < TABLES.len() {
        count += TABLES[table].len();
        table += 1;
    }
    count
}

const fn all() -> [&'static Key; count()] {
    let mut keys = [&TABLES[0][0]; count()];
    let (mut at, mut table) = (0, 0);
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            keys[at] = &TABLES[table][row];
            at += 1;
            row += 1;
        }
        table += 1;
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_variables_follow_them() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(KEYS[at + 1..].iter().all(|other| other.env() != key.env()), "{}", key.name);
        }
        assert_eq!(find("blob-listen").map(Key::env).as_deref(), Some("BASALT_BLOB_LISTEN"));
    }

    #[test]
    fn each_key_is_in_the_table_of_its_heading() {
        let headings = TABLES.map(|table| table[0].heading);
        assert_eq!(headings, ["Machine", "Listeners", "Origins", "Mounts", "Logs"]);
        for (table, heading) in TABLES.iter().zip(headings) {
            assert!(table.iter().all(|key| key.heading == heading), "{heading}");
        }
        let listed = TABLES.iter().flat_map(|table| table.iter());
        assert!(KEYS.iter().map(|key| key.name).eq(listed.map(|key| key.name)));
    }
}
