//! A node of our own: this program as `serve`, a process beside this one, so that its CPU time can be told from that of the load.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;

/// How long it may take to start, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// How many this process has started: each has a directory of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// It is ready. Ended, and its data removed, when dropped.
pub struct Node {
    child: Child,
    dir: PathBuf,
    blob: SocketAddr,
    slice: SocketAddr,
    ops: SocketAddr,
}

impl Node {
    /// Starts one with one column on `cpu`, whose data lies in `dir` (default: .), with `flags` of `serve`.
    pub fn start(dir: Option<&Path>, cpu: usize, flags: &[&str]) -> Result<Self, Error> {
        let failed = |why: String| Error::runtime("cannot start a node to load").why(why);
        let [blob, slice, ops] = free_addrs().map_err(|error| failed(error.to_string()))?;
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let name = format!(".basalt-bench-{}-{}", std::process::id(), STARTED.fetch_add(1, Relaxed));
        let dir = dir.unwrap_or(Path::new(".")).join(name);
        let mut command = Command::new(program);
        command.args(["serve", "--log-level", "warn", "--cpuset", &cpu.to_string(), "--data-dir"]).arg(&dir);
        command.args(flags);
        for (flag, addr) in [("--blob-listen", blob), ("--slice-listen", slice), ("--ops-listen", ops)] {
            command.args([flag, &addr.to_string()]);
        }
        // What is set for the user's own node is not for this one.
        std::env::vars_os()
            .filter(|(name, _)| name.to_string_lossy().starts_with("BASALT_"))
            .for_each(|(name, _)| _ = command.env_remove(name));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.map_err(|error| failed(error.to_string()))?;
        let mut node = Self { child, dir, blob, slice, ops };
        node.await_ready().map_err(failed)?;
        Ok(node)
    }

    /// Where it serves blobs.
    pub fn blob_addr(&self) -> SocketAddr {
        self.blob
    }

    /// Where its proxy listens, if there is a `--slice-origin`.
    pub fn slice_addr(&self) -> SocketAddr {
        self.slice
    }

    /// Where its metrics are.
    pub fn ops_addr(&self) -> SocketAddr {
        self.ops
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn await_ready(&mut self) -> Result<(), String> {
        let until = Instant::now() + PATIENCE;
        while !self.is_ready() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status}"));
            }
            if Instant::now() > until {
                return Err(format!("{} does not say that it is ready", self.ops));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Asked straight, whatever proxy the environment names.
    fn is_ready(&self) -> bool {
        let asked = ureq::get(format!("http://{}/readyz", self.ops));
        asked.config().proxy(None).timeout_global(Some(PATIENCE)).build().call().is_ok()
    }

    fn is_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
            && !self.is_ended()
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + PATIENCE;
        while !self.is_ended() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        // Whatever is left of it ends here; of one that has ended, nothing is.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Addresses on loopback that nobody listens on now.
fn free_addrs() -> std::io::Result<[SocketAddr; 3]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let held = [bind()?, bind()?, bind()?];
    let [a, b, c] = &held;
    Ok([a.local_addr()?, b.local_addr()?, c.local_addr()?])
}
