//! [`RingIo`]: the seam over the ring, glommio's timers and its blocking pool.

use super::blocking::blocking;
use super::core::Ring;
use super::file::{RingFile, c_path, open_flags};
use super::listener::{Listener, bind, connect};
use super::pin::pin;
use crate::buffer::{Arena, Buffer};
use crate::classes::Limits;
use crate::clock::Clock;
use crate::io::{Class, Io, Open};
use crate::metrics::Sample;
use crate::resident::Resident;
use crate::ring::RingConn;
use crate::stall::{Stalls, Watched};
use io_uring::opcode;
use io_uring::types::{Fd, FsyncFlags};
use rustix::fs::OFlags;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The real machine, as one column sees it.
#[derive(Clone)]
pub struct RingIo {
    inner: Rc<Inner>,
}

struct Inner {
    ring: Rc<Ring>,
    arena: Arena,
    clock: Clock,
    stalls: Stalls,
}

impl RingIo {
    pub(crate) fn new(ring: Rc<Ring>, arena: Arena, clock: Clock, stalls: Stalls) -> RingIo {
        RingIo { inner: Rc::new(Inner { ring, arena, clock, stalls }) }
    }

    /// The column's memory.
    pub fn arena(&self) -> Arena {
        self.inner.arena
    }

    /// The column's ring, for benchmarks of it.
    pub fn ring(&self) -> Rc<Ring> {
        self.inner.ring.clone()
    }

    /// Bounds this column's disk I/O in flight from now on, that of [`RingIo::limit_device`] aside.
    pub fn limit_disk(&self, limits: Limits) {
        self.inner.ring.disks().limit_elsewhere(limits);
    }

    /// Bounds this column's disk I/O in flight on the device under `dirs`: files opened from now on by paths that begin so.
    pub fn limit_device(&self, dirs: &[PathBuf], limits: Limits) {
        self.inner.ring.disks().add_device(dirs, limits);
    }

    /// Waits until a descriptor can be read (or has ended, or failed: a read tells). It stays open until then.
    pub async fn readable(&self, watched: impl AsFd + Unpin + 'static) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(watched.as_fd().as_raw_fd()), libc::POLLIN as u32).build();
        let (cqe, _watched) = self.inner.ring.op(entry, watched).await;
        cqe.result().map(drop)
    }

    /// Polls that took too long, by task name.
    pub fn stalls(&self) -> &Stalls {
        &self.inner.stalls
    }
}

impl Io for RingIo {
    type File = RingFile;
    type Conn = RingConn;
    type Listener = Listener;

    fn samples(&self) -> Vec<Sample> {
        self.inner.ring.disks().samples()
    }

    fn now_ns(&self) -> u64 {
        self.inner.clock.now_ns()
    }

    fn unix_ms(&self) -> u64 {
        self.inner.clock.unix_ms()
    }

    async fn sleep(&self, ns: u64) {
        glommio::timer::sleep(Duration::from_nanos(ns)).await;
    }

    async fn yield_now(&self) {
        glommio::executor().yield_now().await;
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        let watched = Watched::new(name, self.inner.stalls.clone(), async move {
            // glommio polls a new task inline: without this the spawner would run it inside its own borrow.
            glommio::executor().yield_now().await;
            task.await;
        });
        glommio::spawn_local(watched).detach();
        self.inner.ring.note_spawned();
    }

    fn buffer(&self, len: usize) -> Option<Buffer> {
        self.inner.arena.alloc_aligned(len)
    }

    fn buffer_fitting(&self, len: usize) -> Option<Buffer> {
        self.inner.arena.alloc(len)
    }

    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        // Never blocks and never fails for so few bytes once the kernel has started (random(7)).
        let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        assert_eq!(filled, Ok(bytes.len()), "no random bytes");
        u64::from_ne_bytes(bytes)
    }

    fn listen(&self, addr: SocketAddr) -> io::Result<Listener> {
        Ok(Listener::new(bind(addr, true)?, self.inner.ring.clone()))
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<RingConn> {
        connect(&self.inner.ring, addr).await
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let host = host.to_owned();
        let look_up = move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        blocking(&self.inner.ring, look_up).await
    }

    async fn open(&self, path: &Path, how: Open) -> io::Result<RingFile> {
        RingFile::open(&self.inner.ring, path, how).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let paths = (c_path(from)?, c_path(to)?);
        let cwd = Fd(libc::AT_FDCWD);
        let entry = opcode::RenameAt::new(cwd, paths.0.as_ptr(), cwd, paths.1.as_ptr()).build();
        let (cqe, _paths) = self.inner.ring.op(entry, paths).await;
        cqe.result().map(drop)
    }

    async fn unlink(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let entry = opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build();
        let (cqe, _path) = self.inner.ring.op(entry, path).await;
        cqe.result().map(drop)
    }

    async fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let path = c_path(dir)?;
        let entry = opcode::MkDirAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).mode(0o750).build();
        let (cqe, _path) = self.inner.ring.op(entry, path).await;
        match cqe.result() {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            _ => Ok(()),
        }
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let fd = open_flags(&self.inner.ring, dir, OFlags::RDONLY | OFlags::DIRECTORY).await?;
        let entry = opcode::Fsync::new(Fd(fd.as_raw_fd())).flags(FsyncFlags::empty()).build();
        let (cqe, _fd) = self.inner.ring.op(entry, fd).await;
        cqe.result().map(drop)
    }

    async fn list_dir(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let dir = dir.to_owned();
        blocking(&self.inner.ring, move || list(&dir)).await
    }

    async fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let dir = dir.to_owned();
        blocking(&self.inner.ring, move || free(&dir)).await
    }

    async fn pin_resident(
        &self,
        path: &Path,
        offset: u64,
        len: usize,
        class: Class,
        verify: impl FnOnce(&[u8]) -> bool + Send + 'static,
    ) -> io::Result<Option<Resident>> {
        let Some(loan) = self.inner.arena.lend(len) else {
            return Ok(None);
        };
        pin(&self.inner.ring, path, (offset, len), class, (loan, verify)).await
    }
}

fn free(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn list(dir: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            found.push((name, meta.len()));
        }
    }
    Ok(found)
}
