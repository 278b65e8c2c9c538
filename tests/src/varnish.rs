//! Varnish, the cache that ours is compared with: its own rules (the built-in VCL), and the lifetimes that ours has without an
//! origin's word.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Conn, Request};
use crate::node::free_addr;

const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running Varnish; dropping it ends it.
pub struct Varnish {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Varnish {
    /// In front of `origin`, which says 200 to `/ready`, with its files in `dir`.
    pub fn start(dir: &Path, origin: SocketAddr) -> Self {
        let addr = free_addr();
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let mut command = Command::new("varnishd");
        command
            .env("PATH", path)
            .args(["-F", "-j", "none", "-s", "malloc,64m", "-T", "none"])
            .arg("-n")
            .arg(dir);
        command.arg("-a").arg(addr.to_string()).arg("-b").arg(origin.to_string());
        for parameter in ["default_ttl=3600", "default_grace=0", "default_keep=3600", "thread_pools=1"] {
            command.args(["-p", parameter]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("varnishd: {error}: tests/install"));
        let varnish = Self { child, addr };
        let begin = Instant::now();
        // It listens before it has compiled what it does.
        while !varnish.is_ready() {
            assert!(begin.elapsed() < START_DEADLINE, "varnishd does not answer on {addr}");
            thread::sleep(Duration::from_millis(20));
        }
        varnish
    }

    fn is_ready(&self) -> bool {
        let Ok(mut conn) = Conn::try_open(self.addr) else { return false };
        conn.try_call(&Request::new("GET", "/ready")).is_ok_and(|reply| reply.status == 200)
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
