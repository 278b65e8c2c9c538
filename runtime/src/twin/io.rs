//! [`TwinIo`]: the seam over the simulated world.

use super::conn::{TwinConn, TwinListener, connect};
use super::faults::Fault;
use super::file::{TwinFile, disk_error, disk_ns};
use super::world::{Group, World};
use crate::buffer::{Arena, Buffer};
use crate::io::{Class, Io, Open};
use crate::planted::{self, Bug};
use crate::resident::Resident;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;

/// What names and directories take, least and most.
const NAME_NS: (u64, u64) = (5_000, 100_000);
const DIR_SYNC_NS: (u64, u64) = (50_000, 2_000_000);
const CONNECT_NS: (u64, u64) = (10_000, 200_000);
/// The file system writes its journal unasked once in so many syncs.
const COMMIT_PPM: u32 = 20_000;
/// What new memory is filled with: whoever reads what he has not written sees it, in every run alike.
const POISON: u8 = 0xA5;

/// The simulated machine, as one column of one boot (or a client) sees it.
#[derive(Clone)]
pub struct TwinIo {
    pub(super) world: Rc<World>,
    group: Group,
    /// Clients have none.
    arena: Option<Arena>,
}

impl TwinIo {
    pub(super) fn new(world: &Rc<World>, group: Group, arena: Option<Arena>) -> TwinIo {
        TwinIo { world: world.clone(), group, arena }
    }

    async fn names<T: 'static>(
        &self,
        ns: (u64, u64),
        run: impl FnOnce(&World) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        let takes_ns = disk_ns(&self.world, ns);
        let done = self.world.operation(takes_ns, self.group, move |world| match disk_error(world, None) {
            Some(e) => Err(e),
            None => run(world),
        });
        done.await
    }

    fn poisoned(&self, buffer: Option<Buffer>) -> Option<Buffer> {
        if self.world.happens(Fault::NoMemory) {
            return None;
        }
        let mut buffer = buffer?;
        buffer.fill(POISON);
        Some(buffer)
    }
}

fn note_path(world: &World, kind: &str, path: &Path) {
    world.note(kind, &[u64::from(crc32c::crc32c(path.as_os_str().as_encoded_bytes()))]);
}

/// The bug that leaves out the sync of a directory. That of a data directory itself is asked for by many, who leave it out.
fn left_out(dir: &Path) -> Option<Bug> {
    match dir.parent() {
        None => Some(Bug::RootNameUnsynced),
        Some(parent) if parent.ends_with("objects") => Some(Bug::ObjectNameUnsynced),
        Some(_) => dir.ends_with("objects").then_some(Bug::ShardDirsUnsynced),
    }
}

impl Io for TwinIo {
    type File = TwinFile;
    type Conn = TwinConn;
    type Listener = TwinListener;

    fn now_ns(&self) -> u64 {
        self.world.now_ns()
    }

    fn unix_ms(&self) -> u64 {
        self.world.unix_ms()
    }

    async fn sleep(&self, ns: u64) {
        self.world.operation(ns, self.group, |_| ()).await;
    }

    async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return std::task::Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + 'static) {
        self.world.spawn(self.group, name, Box::pin(task));
    }

    fn buffer(&self, len: usize) -> Option<Buffer> {
        self.poisoned(self.arena?.alloc_aligned(len))
    }

    fn buffer_fitting(&self, len: usize) -> Option<Buffer> {
        self.poisoned(self.arena?.alloc(len))
    }

    fn random(&self) -> u64 {
        self.world.draw(super::rng::Rng::any)
    }

    fn listen(&self, addr: SocketAddr) -> io::Result<TwinListener> {
        Ok(TwinListener::new(&self.world, addr))
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<TwinConn> {
        let takes_ns = self.world.draw(|rng| rng.within(CONNECT_NS.0, CONNECT_NS.1));
        self.world.operation(takes_ns, self.group, move |world| connect(world, addr)).await
    }

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let takes_ns = self.world.draw(|rng| rng.within(CONNECT_NS.0, CONNECT_NS.1));
        let found = host.parse::<IpAddr>().map(|ip| vec![SocketAddr::new(ip, port)]);
        let found = found.map_err(|_| io::Error::other("no such host"));
        self.world.operation(takes_ns, self.group, move |_| found).await
    }

    async fn open(&self, path: &Path, how: Open) -> io::Result<TwinFile> {
        let (path, group, world) = (path.to_owned(), self.group, self.world.clone());
        let opened = self.names(NAME_NS, move |_| {
            note_path(&world, "open", &path);
            let disk = &world.disk;
            // Borrowed in steps: the handle asks the disk too.
            let inode = match how {
                Open::CreateDirect => disk.borrow_mut().create(&path)?,
                Open::ReadDirect | Open::WriteDirect => disk.borrow_mut().open(&path)?,
            };
            Ok(TwinFile::new(&world, group, (&path, inode), how != Open::ReadDirect))
        });
        opened.await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        let renamed = self.names(NAME_NS, move |world| {
            note_path(world, "rename", &to);
            world.disk.borrow_mut().rename(&from, &to)
        });
        renamed.await
    }

    async fn unlink(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        let removed = self.names(NAME_NS, move |world| {
            note_path(world, "unlink", &path);
            world.disk.borrow_mut().unlink(&path)
        });
        removed.await
    }

    async fn make_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        let made = self.names(NAME_NS, move |world| {
            note_path(world, "make_dir", &dir);
            world.disk.borrow_mut().make_dir(&dir)
        });
        made.await
    }

    async fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = dir.to_owned();
        let synced = self.names(DIR_SYNC_NS, move |world| {
            note_path(world, "sync_dir", &dir);
            if world.happens(Fault::SyncError) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            if world.happens(Fault::LyingSync) || left_out(&dir).is_some_and(planted::is) {
                return Ok(());
            }
            world.disk.borrow_mut().sync_dir(&dir)?;
            if world.draw(|rng| rng.chance(COMMIT_PPM)) {
                world.disk.borrow_mut().commit_names();
            }
            Ok(())
        });
        synced.await
    }

    async fn list_dir(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let dir = dir.to_owned();
        let listed = self.names(NAME_NS, move |world| {
            let mut found = world.disk.borrow().list(&dir)?;
            // In no order, as the seam says.
            for at in (1..found.len()).rev() {
                found.swap(at, world.draw(|rng| rng.below(at as u64 + 1)) as usize);
            }
            Ok(found)
        });
        listed.await
    }

    async fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let dir = dir.to_owned();
        let free = self.names(NAME_NS, move |world| {
            let disk = world.disk.borrow();
            disk.list(&dir)?;
            Ok(disk.free_bytes())
        });
        free.await
    }

    async fn pin_resident(
        &self,
        path: &Path,
        offset: u64,
        len: usize,
        _class: Class,
        verify: impl FnOnce(&[u8]) -> bool + Send + 'static,
    ) -> io::Result<Option<Resident>> {
        assert!(len > 0 && offset.is_multiple_of(4096), "pin of {len} bytes at {offset}");
        if self.world.happens(Fault::PinRefused) {
            return Ok(None);
        }
        let Some(loan) = self.arena.and_then(|arena| arena.lend(len)) else { return Ok(None) };
        let path = path.to_owned();
        let pinned = self.names(NAME_NS, move |world| {
            if world.happens(Fault::ReadError) {
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let mut bytes = vec![0; len];
            if world.disk.borrow().find(&path)?.read(offset, &mut bytes) < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if world.happens(Fault::PinDamaged) {
                bytes[world.draw(|rng| rng.below(len as u64)) as usize] ^= 1;
            }
            if !verify(&bytes) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "checksum mismatch"));
            }
            Ok(Some(Resident::copied(bytes.into(), loan)))
        });
        pinned.await
    }
}
