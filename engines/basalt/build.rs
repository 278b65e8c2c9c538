//! Tells `basalt version` which compiler built it, and for what.

use std::process::Command;

fn main() {
    let rustc = std::env::var("RUSTC").expect("cargo sets RUSTC for build scripts");
    let target = std::env::var("TARGET").expect("cargo sets TARGET for build scripts");
    let printed = Command::new(&rustc).arg("--version").output().expect("the compiler runs");
    println!("cargo::rustc-env=BASALT_RUSTC={}", String::from_utf8_lossy(&printed.stdout).trim());
    println!("cargo::rustc-env=BASALT_TARGET={target}");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=BASALT_COMMIT");
}
