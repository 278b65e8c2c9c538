//! Turns `BASALT_PLANTED=<bug>` into `--cfg planted="<bug>"` for this crate alone: in RUSTFLAGS it
//! would rebuild loom for every bug. Caller: cargo, for `loom-tests/run`.

use std::env;

/// The bugs that can be planted; each is a branch in runtime/src/mesh.
const BUGS: [&str; 3] = ["relaxed_publish", "no_fence", "wake_before_publish"];

fn main() {
    println!("cargo::rerun-if-env-changed=BASALT_PLANTED");
    let values = BUGS.map(|bug| format!("\"{bug}\"")).join(", ");
    println!("cargo::rustc-check-cfg=cfg(planted, values({values}))");
    match env::var("BASALT_PLANTED") {
        Ok(bug) if bug.is_empty() => {}
        Ok(bug) => {
            assert!(BUGS.contains(&bug.as_str()), "no such bug to plant: {bug}");
            println!("cargo::rustc-cfg=planted=\"{bug}\"");
        }
        Err(_) => {}
    }
}
