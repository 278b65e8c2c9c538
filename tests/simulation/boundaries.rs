//! Only `runtime` has the twin: no engine, nothing between, and not the binary may know that it is simulated.

use std::path::Path;

fn sources(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a source directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn no_product_crate_but_runtime_names_the_twin() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for part in ["engines", "net", "fuse-lowlevel"] {
        sources(&root.join(part), &mut found);
    }
    assert!(found.len() > 50, "only {} files were looked at", found.len());
    for path in found {
        let text = std::fs::read_to_string(&path).expect("readable");
        let names = ["::twin", "TwinIo", "mod twin", "twin::"];
        assert!(!names.iter().any(|n| text.contains(n)), "{} names the twin", path.display());
    }
}
