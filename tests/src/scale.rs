//! How much a test does: its own count, or what the environment asks for (`tests/soak` asks for more).

use std::env;

/// The number in the variable `name`, or `usual`.
pub fn count(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| {
        let number = text.parse().ok().filter(|&number| number > 0);
        number.unwrap_or_else(|| panic!("{name} is a number from 1 on, not {text:?}"))
    })
}
