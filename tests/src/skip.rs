//! The only way not to run a test: `BASALT_SKIP=name,…` names what this machine lacks.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// Called where a test cannot run here: true when `BASALT_SKIP` names `what`, and then the test
/// returns. Otherwise it fails with the reason. Skips are written to `BASALT_SKIP_LOG`, if set.
pub fn told_to_skip(what: &str, why: &str) -> bool {
    let names = env::var("BASALT_SKIP").unwrap_or_default();
    assert!(
        names.split(',').any(|name| name.trim() == what),
        "cannot run here: {why}; BASALT_SKIP={what} skips what needs it"
    );
    eprintln!("skipped ({what}): {why}");
    if let Ok(path) = env::var("BASALT_SKIP_LOG") {
        let mut log =
            OpenOptions::new().create(true).append(true).open(path).expect("BASALT_SKIP_LOG can be written");
        writeln!(log, "{what}: {why}").expect("BASALT_SKIP_LOG can be written");
    }
    true
}
