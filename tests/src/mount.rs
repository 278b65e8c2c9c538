//! A file system of a test's own: small, really full, or failing.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::command::{self, Finished};
use crate::node::Setup;
use crate::skip;

/// An ext4 image mounted through a loop device; unmounted when dropped. Keeps the directory that it is mounted in until then.
pub struct LoopMount {
    /// Where it is mounted.
    pub at: PathBuf,
    _parent: Setup,
}

impl LoopMount {
    /// One of `size_bytes`; `None` when this machine has no loop devices and the tests were told that this is so.
    pub fn or_skip(parent: &Setup, size_bytes: u64) -> Option<Self> {
        match Self::new(parent.clone(), size_bytes) {
            Ok(mounted) => Some(mounted),
            Err(why) => {
                skip::told_to_skip("loop", &format!("no loop-mounted file system: {why}"));
                None
            }
        }
    }

    fn new(parent: Setup, size_bytes: u64) -> Result<Self, String> {
        let (image, at) = (parent.path("image"), parent.path("mounted"));
        let file = File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(size_bytes).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(&at).map_err(|e| e.to_string())?;
        let quiet = ["-q", "-m", "0"].map(Path::new);
        tool("mkfs.ext4", &[&quiet[..], &[&image]].concat())?;
        tool("mount", &[Path::new("-o"), Path::new("loop"), &image, &at])?;
        Ok(Self { at, _parent: parent })
    }

    /// Bytes that files may yet take.
    pub fn free_bytes(&self) -> u64 {
        let said = tool("df", &[Path::new("--output=avail"), Path::new("-B1"), &self.at]).expect("df");
        let said = String::from_utf8(said.stdout).expect("text");
        said.lines().last().expect("a figure").trim().parse().expect("bytes")
    }

    /// From now on every write and sync fails, as after an error of the disk; what was written can be read.
    pub fn fail(&self) {
        tool("mount", &[Path::new("-o"), Path::new("remount,abort"), &self.at]).expect("aborted");
    }
}

impl Drop for LoopMount {
    fn drop(&mut self) {
        if let Err(why) = tool("umount", &[Path::new("-l"), &self.at]) {
            eprintln!("{why}");
        }
    }
}

fn tool(program: &str, args: &[&Path]) -> Result<Finished, String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut command = Command::new(program);
    command.args(args).env("PATH", path);
    let finished = command::run(&mut command, Duration::from_secs(30));
    if finished.code == 0 { Ok(finished) } else { Err(format!("{program}: {}", finished.stderr)) }
}
