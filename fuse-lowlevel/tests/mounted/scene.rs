//! A directory to mount on, a time limit after which everything is torn down, and clients in processes of their own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use fuse_lowlevel::mount::{Options, table};

/// Of a whole test.
const SCENE_LIMIT: Duration = Duration::from_secs(60);
/// Of one client.
pub const CLIENT_LIMIT: Duration = Duration::from_secs(20);

pub struct Scene {
    // Before `home`: the mount must be gone when the directory is removed.
    _done: Sender<()>,
    pub directory: PathBuf,
    home: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Scene {
        assert!(rustix::process::geteuid().is_root(), "these tests mount, and so are run as root");
        let home = tempfile::Builder::new().prefix("fuse-lowlevel-").tempdir_in("/var/tmp").unwrap();
        // A blank in the name: mountinfo writes it as \040.
        let directory = home.path().join("mount point");
        std::fs::create_dir(&directory).unwrap();
        let (done, over) = channel::<()>();
        let watched = directory.clone();
        std::thread::spawn(move || {
            if over.recv_timeout(SCENE_LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("a test took longer than {SCENE_LIMIT:?}: {}", watched.display());
                umount(&watched);
                std::process::abort();
            }
        });
        Scene { _done: done, directory, home }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A path outside the mount.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn is_mounted(&self) -> bool {
        !table::on(&self.directory).unwrap().is_empty()
    }

    /// What a client of the mount reads.
    pub fn read(&self, name: &str) -> Vec<u8> {
        let copy = self.beside("copy");
        let client = start("cp", [self.file(name).as_os_str(), copy.as_os_str()]);
        assert!(finish(client), "cp of {name}");
        std::fs::read(copy).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.is_mounted() {
            umount(&self.directory);
        }
    }
}

/// By another program: whatever this process is stuck in, it does not touch the mount.
fn umount(directory: &Path) {
    let _ = Command::new("umount").args(["-l", "-f"]).arg(directory).status();
    let _ = Command::new("umount").args(["-l"]).arg(directory).stderr(Stdio::null()).status();
}

pub fn options() -> Options {
    Options {
        read_only: false,
        allow_other: false,
        default_permissions: true,
        source: "fuse-lowlevel-test".into(),
        subtype: "lowlevel-test".into(),
    }
}

pub fn start<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Child {
    Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Waits for a client, within its limit; whether it succeeded.
pub fn finish(mut client: Child) -> bool {
    let begin = Instant::now();
    loop {
        if let Some(status) = client.try_wait().unwrap() {
            return status.success();
        }
        if begin.elapsed() > CLIENT_LIMIT {
            client.kill().unwrap();
            panic!("a client took longer than {CLIENT_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < CLIENT_LIMIT, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
