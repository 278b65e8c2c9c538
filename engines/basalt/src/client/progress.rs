//! Progress on standard error, only when that is a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `total_bytes`, or a running count when the total is unknown.
pub fn bar(total_bytes: Option<u64>, label: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total_bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{msg:30!} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        ),
        None => (ProgressBar::new_spinner(), "{msg:30!} {spinner} {binary_bytes} {binary_bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).expect("the templates above are valid");
    bar.with_style(style.progress_chars("=> ")).with_message(printable(label))
}

/// A line that says how long it has taken so far, where nothing else is known.
pub fn waiting(label: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is valid");
    ProgressBar::new_spinner().with_style(style).with_message(printable(label))
}

/// A file's name without what a terminal would obey.
fn printable(label: &str) -> String {
    label.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
