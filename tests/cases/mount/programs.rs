//! Programs that know nothing of us: cp, tar, rsync, cmp, dd, grep, and safetensors.

use std::fs;
use std::path::Path;
use std::process::Command;

use tests::fuse::{self, MountPoint, name_of};

use super::{must_have_served, on_every_rung, text, with_blobs};

/// Packed and not, one page and several.
const SIZES: [usize; 9] = [0, 1, 4096, 65_535, 65_536, 65_537, 300_000, 1 << 20, 9 << 20];

/// Panics unless a directory holds copies, each named by its SHA-256, and `count` of them.
fn must_be_copies(dir: &Path, count: usize) {
    let names: Vec<_> =
        fs::read_dir(dir).expect("copied").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(names.len(), count, "{}", dir.display());
    let paths: Vec<&str> = names.iter().map(|path| text(path)).collect();
    for (line, path) in fuse::tool("sha256sum", &paths).lines().zip(paths) {
        assert!(path.ends_with(&line[..64]), "wrong bytes: {line}");
    }
}

/// Of those, blobs that the kernel may be given.
const LARGE: usize = 4;

/// Copies the blobs of each mount by a shell command with the tree as `$1` and an empty directory as `$2`, on every rung.
fn must_copy(script: &str, below: &str) {
    on_every_rung(|rung| must_copy_by(rung, script, below));
}

fn must_copy_by(rung: &str, script: &str, below: &str) {
    let Some((mounted, blobs, _)) = with_blobs(rung, &SIZES) else { return };
    for (at, point) in mounted.points().into_iter().enumerate() {
        let to = mounted.node.setup.path(&format!("copy{at}"));
        fs::create_dir(&to).expect("made");
        fuse::tool("sh", &["-euc", script, "sh", point.text(), text(&to)]);
        must_be_copies(&to.join(below), blobs.len());
    }
    must_have_served(&mounted, rung, LARGE);
}

#[test]
fn cp_copies_the_tree() {
    must_copy("cp -r \"$1/by-digest\" \"$2\"", "by-digest/sha256");
}

#[test]
fn cp_copies_without_page_sharing_and_with_attributes() {
    must_copy("cp -a --reflink=never --sparse=always \"$1/by-digest/sha256\" \"$2\"", "sha256");
}

#[test]
fn tar_packs_what_unpacks_as_it_was() {
    // tar takes no file whose size changes while it reads; --sparse asks for holes.
    must_copy("tar -C \"$1\" -cf - by-digest | tar -C \"$2\" -xf -", "by-digest/sha256");
    must_copy("tar -C \"$1\" --sparse -cf - by-digest | tar -C \"$2\" -xf -", "by-digest/sha256");
}

#[test]
fn rsync_copies_the_tree_and_then_has_nothing_to_do() {
    let script = "rsync -a \"$1/by-digest\" \"$2\"
        again=$(rsync -a --itemize-changes \"$1/by-digest\" \"$2\")
        test -z \"$again\" || { echo \"again: $again\" >&2; exit 1; }
        rsync -a --checksum --dry-run \"$1/by-digest\" \"$2\"";
    must_copy(script, "by-digest/sha256");
}

#[test]
fn dd_reads_past_the_cache_and_at_odd_block_sizes() {
    let script = "for file in \"$1\"/by-digest/sha256/*; do
            name=$(basename \"$file\")
            dd if=\"$file\" of=\"$2/$name\" bs=262144 iflag=direct status=none
            dd if=\"$file\" bs=70001 status=none | cmp - \"$2/$name\"
            cmp \"$file\" \"$2/$name\"
            cat \"$file\" | cmp - \"$2/$name\"
        done";
    must_copy(script, "");
}

/// Made with the library, stored, and loaded with it by the name with its suffix.
const MAKE: &str = r#"
import sys, numpy, safetensors.numpy
made = numpy.random.default_rng(7)
tensors = {f"layer.{n}": made.standard_normal((257, n + 1), dtype=numpy.float32) for n in range(24)}
tensors["bytes"] = made.integers(0, 256, 5_000_003, dtype=numpy.uint8)
tensors["empty"] = numpy.zeros((0, 4), dtype=numpy.float64)
safetensors.numpy.save_file(tensors, sys.argv[1], {"made": "here"})
"#;

const LOAD: &str = r#"
import sys, numpy, safetensors, safetensors.numpy
original = safetensors.numpy.load_file(sys.argv[1])
for path in sys.argv[2:]:
    loaded = safetensors.numpy.load_file(path)
    assert loaded.keys() == original.keys()
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"made": "here"}
        for name in reversed(sorted(file.keys())):
            for tensor in (loaded[name], file.get_tensor(name)):
                assert tensor.dtype == original[name].dtype and numpy.array_equal(tensor, original[name]), name
        assert numpy.array_equal(file.get_slice("bytes")[4_000_001:4_100_000], original["bytes"][4_000_001:4_100_000])
"#;

#[test]
fn safetensors_loads_by_a_name_with_its_suffix() {
    let Some(python) = fuse::python_with_packages_or_skip() else { return };
    let python = text(&python);
    on_every_rung(|rung| {
        let Some((mounted, _, _)) = with_blobs(rung, &[]) else { return };
        let file = mounted.node.setup.path("made.safetensors");
        fuse::tool(python, &["-c", MAKE, text(&file)]);
        let digest = mounted.node.client().put(&fs::read(&file).expect("made"));
        let path = |point: &MountPoint| point.blobs().join(format!("{}.safetensors", name_of(&digest)));
        let paths = mounted.points().map(path);
        let finished = fuse::run(Command::new(python).args(["-c", LOAD]).arg(&file).args(&paths));
        assert_eq!(finished.code, 0, "{rung}: {}", finished.stderr);
        must_have_served(&mounted, rung, 1);
    });
}
