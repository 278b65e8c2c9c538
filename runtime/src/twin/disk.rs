//! The simulated disk: names and files, as they are now and as a power cut would leave them. Pure: no time, no chance but
//! what `cut` is given. Called by `file.rs` and `io.rs` when an operation completes.
//!
//! Invariants
//! 1. A name made, moved or removed is durable only after a sync of a directory it concerns; moving is atomic.
//! 2. A change of names that survives brings with it the earlier changes of the same names.
//! 3. The bytes of all files that have a name or are open never pass the capacity.
//! 4. What a failed sync was to make durable is read until a cut, and no later sync makes it durable: as Linux does, which
//!    takes the pages for clean when it could not write them. Only what is written again has another chance.
//!
//! Units: bytes.

use super::inode::{Cut, Inode, Losses};
use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// A file, whatever its name; never used again for another one.
pub(super) type InodeId = u64;

#[derive(Clone, Debug)]
enum Change {
    Make(PathBuf, InodeId),
    Move(PathBuf, PathBuf, InodeId),
    Remove(PathBuf),
    MakeDir(PathBuf),
}

impl Change {
    fn paths(&self) -> Vec<&Path> {
        match self {
            Change::Make(path, _) | Change::Remove(path) | Change::MakeDir(path) => vec![path],
            Change::Move(from, to, _) => vec![from, to],
        }
    }
}

#[derive(Clone, Default)]
struct Tree {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, InodeId>,
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Make(path, id) => drop(self.files.insert(path.clone(), *id)),
            Change::Move(from, to, id) => {
                self.files.remove(from);
                self.files.insert(to.clone(), *id);
            }
            Change::Remove(path) => drop(self.files.remove(path)),
            Change::MakeDir(path) => drop(self.dirs.insert(path.clone())),
        }
    }
}

/// A copy of it is a disk image.
#[derive(Clone)]
pub(super) struct Disk {
    capacity_bytes: u64,
    inodes: BTreeMap<InodeId, Inode>,
    /// Of files a sync of which has failed: what the medium has. Reads are of `inodes`, cuts of this.
    failed: BTreeMap<InodeId, Inode>,
    next: InodeId,
    now: Tree,
    durable: Tree,
    unsynced: Vec<Change>,
    /// Boots of the machine: handles of an earlier one mean nothing.
    epoch: u32,
    /// Writes, syncs and changes of names so far.
    changes: u64,
}

fn not_found() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

fn full() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOSPC)
}

impl Disk {
    /// An empty disk with a root directory.
    pub(super) fn new(capacity_bytes: u64) -> Disk {
        let root = Tree { dirs: BTreeSet::from([PathBuf::from("/")]), files: BTreeMap::new() };
        Disk {
            capacity_bytes,
            inodes: BTreeMap::new(),
            failed: BTreeMap::new(),
            next: 1,
            now: root.clone(),
            durable: root,
            unsynced: Vec::new(),
            epoch: 0,
            changes: 0,
        }
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// Bytes in use: of files that have a name or are open. What only a cut could bring back takes none.
    pub(super) fn used_bytes(&self) -> u64 {
        self.inodes.values().filter(|i| i.named || i.open > 0).map(Inode::disk_bytes).sum()
    }

    /// Bytes that are left.
    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    fn change(&mut self, change: Change) {
        self.changes += 1;
        self.now.apply(&change);
        self.unsynced.push(change);
    }

    fn must_be_dir(&self, dir: &Path) -> io::Result<()> {
        if self.now.dirs.contains(dir) { Ok(()) } else { Err(not_found()) }
    }

    pub(super) fn open(&mut self, path: &Path) -> io::Result<InodeId> {
        if self.now.dirs.contains(path) {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        let id = *self.now.files.get(path).ok_or_else(not_found)?;
        self.inode_mut(id).open += 1;
        Ok(id)
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        self.must_be_dir(path.parent().ok_or_else(not_found)?)?;
        if self.now.files.contains_key(path) || self.now.dirs.contains(path) {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, Inode::opened());
        self.change(Change::Make(path.to_owned(), id));
        Ok(id)
    }

    /// A handle is dropped; `epoch`: of the boot that opened it.
    pub(super) fn close(&mut self, id: InodeId, epoch: u32) {
        if epoch == self.epoch {
            self.inode_mut(id).open -= 1;
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let id = *self.now.files.get(from).ok_or_else(not_found)?;
        self.must_be_dir(to.parent().ok_or_else(not_found)?)?;
        let over = self.now.files.get(to).copied();
        self.change(Change::Move(from.to_owned(), to.to_owned(), id));
        if let Some(over) = over.filter(|over| *over != id) {
            self.inode_mut(over).named = false;
        }
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let id = *self.now.files.get(path).ok_or_else(not_found)?;
        self.change(Change::Remove(path.to_owned()));
        self.inode_mut(id).named = false;
        Ok(())
    }

    pub(super) fn make_dir(&mut self, dir: &Path) -> io::Result<()> {
        if self.now.dirs.contains(dir) || self.now.files.contains_key(dir) {
            return Ok(());
        }
        self.must_be_dir(dir.parent().ok_or_else(not_found)?)?;
        self.change(Change::MakeDir(dir.to_owned()));
        Ok(())
    }

    /// Names and sizes of the files in `dir`.
    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        self.must_be_dir(dir)?;
        // Paths compare by component: what is in `dir` follows it.
        let inside = self.now.files.range(dir.to_owned()..).take_while(|(path, _)| path.starts_with(dir));
        let inside = inside.filter(|(path, _)| path.parent() == Some(dir));
        let name = |path: &Path| path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        Ok(inside.map(|(path, id)| (name(path), self.inodes[id].size())).collect())
    }

    /// The changes that `is_wanted` names, and all earlier ones of the same names, become durable.
    fn commit(&mut self, mut is_wanted: impl FnMut(&Change) -> bool) {
        let mut names: BTreeSet<PathBuf> = BTreeSet::new();
        let mut wanted = vec![false; self.unsynced.len()];
        for (at, change) in self.unsynced.iter().enumerate().rev() {
            if is_wanted(change) || change.paths().iter().any(|p| names.contains(*p)) {
                wanted[at] = true;
                names.extend(change.paths().into_iter().map(Path::to_owned));
            }
        }
        let mut wanted = wanted.into_iter();
        let durable = &mut self.durable;
        self.unsynced.retain(|change| {
            let taken = wanted.next().expect("as many as changes");
            if taken {
                durable.apply(change);
            }
            !taken
        });
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.changes += 1;
        self.must_be_dir(dir)?;
        self.commit(|change| change.paths().iter().any(|p| p.parent() == Some(dir)));
        self.free_unreachable();
        Ok(())
    }

    /// The file system writes its journal now and then, asked or not.
    pub(super) fn commit_names(&mut self) {
        self.commit(|_| true);
        self.free_unreachable();
    }

    fn free_unreachable(&mut self) {
        let Disk { inodes, failed, now, durable, unsynced, .. } = self;
        let mut reachable: BTreeSet<InodeId> =
            now.files.values().chain(durable.files.values()).copied().collect();
        for change in unsynced {
            if let Change::Make(_, id) | Change::Move(_, _, id) = change {
                reachable.insert(*id);
            }
        }
        inodes.retain(|id, inode| inode.open > 0 || reachable.contains(id));
        failed.retain(|id, _| inodes.contains_key(id));
    }

    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        self.inodes.get(&id).expect("an open file is kept")
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("an open file is kept")
    }

    /// Changes a file, and what the medium has of it where that is something else.
    fn change_file(&mut self, id: InodeId, change: impl Fn(&mut Inode)) {
        self.changes += 1;
        change(self.inode_mut(id));
        self.failed.get_mut(&id).into_iter().for_each(change);
    }

    pub(super) fn write(&mut self, id: InodeId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let grows = (offset + bytes.len() as u64).saturating_sub(self.inode(id).disk_bytes());
        if grows > 0 && self.used_bytes() + grows > self.capacity_bytes {
            return Err(full());
        }
        self.change_file(id, |inode| inode.write(offset, bytes));
        Ok(())
    }

    pub(super) fn sync(&mut self, id: InodeId) {
        self.change_file(id, Inode::sync);
    }

    /// A sync fails: of what it was to make durable the medium has some, as `rng` says, and will not have the rest.
    pub(super) fn fail_sync(&mut self, id: InodeId, rng: &mut Rng) {
        self.changes += 1;
        let mut medium = self.failed.get(&id).unwrap_or_else(|| self.inode(id)).clone();
        medium.cut(Cut::Random, rng, &mut Losses::default());
        self.failed.insert(id, medium);
    }

    pub(super) fn allocate(&mut self, id: InodeId, len: u64) -> io::Result<()> {
        let grows = len.saturating_sub(self.inode(id).disk_bytes());
        if grows > 0 && self.used_bytes() + grows > self.capacity_bytes {
            return Err(full());
        }
        self.change_file(id, |inode| inode.allocate(len));
        Ok(())
    }

    pub(super) fn truncate(&mut self, id: InodeId, len: u64) {
        self.change_file(id, |inode| inode.truncate(len));
    }

    /// The bytes of a file by name, past all handles: for pinning, and for looking at a disk.
    pub(super) fn find(&self, path: &Path) -> io::Result<&Inode> {
        self.now.files.get(path).map(|id| &self.inodes[id]).ok_or_else(not_found)
    }

    /// The power goes: nothing but the durable part, and what of the rest `how` leaves, is there afterwards.
    pub(super) fn cut(&mut self, how: Cut, rng: &mut Rng) -> Losses {
        let mut losses = Losses::default();
        let before = self.unsynced.len();
        match how {
            Cut::KeepAll => self.commit(|_| true),
            Cut::KeepNone => {}
            Cut::Random => self.commit(|_| rng.below(2) == 0),
        }
        losses.lost_names += self.unsynced.len() as u64;
        assert!(self.unsynced.len() <= before, "a cut changes no names of its own");
        self.unsynced.clear();
        let dirs = self.durable.dirs.clone();
        let reaches = |path: &Path| path.ancestors().all(|dir| dirs.contains(dir));
        self.durable.dirs.retain(|dir| reaches(dir));
        self.durable.files.retain(|path, _| path.parent().is_some_and(&reaches));
        self.now = self.durable.clone();
        self.epoch += 1;
        let named: BTreeSet<InodeId> = self.now.files.values().copied().collect();
        for (id, inode) in &mut self.inodes {
            if let Some(medium) = self.failed.remove(id) {
                *inode = medium;
            }
            inode.cut(how, rng, &mut losses);
            inode.named = named.contains(id);
        }
        self.free_unreachable();
        losses
    }

    /// All files as they are now.
    pub(super) fn files(&self) -> impl Iterator<Item = (&Path, &Inode)> {
        self.now.files.iter().map(|(path, id)| (path.as_path(), &self.inodes[id]))
    }

    /// Has a file hold `content`; false if there is none.
    pub(super) fn replace(&mut self, path: &Path, content: &[u8]) -> bool {
        let Some(&id) = self.now.files.get(path) else { return false };
        let mut whole = content.to_vec();
        whole.resize(content.len().next_multiple_of(super::inode::SECTOR_BYTES as usize), 0);
        let inode = self.inode_mut(id);
        inode.truncate(0);
        inode.write(0, &whole);
        inode.truncate(content.len() as u64);
        inode.sync();
        true
    }

    /// Flips the bits of one byte of a file that `mask` has; false where it has none on the disk.
    pub(super) fn flip_bits(&mut self, path: &Path, at: u64, mask: u8) -> bool {
        let Some(&id) = self.now.files.get(path) else { return false };
        if let Some(medium) = self.failed.get_mut(&id) {
            medium.flip_bits(at, mask);
        }
        self.inode_mut(id).flip_bits(at, mask)
    }

    /// Flips a bit of a durable sector of some file; says where.
    pub(super) fn flip(&mut self, rng: &mut Rng) -> Option<(PathBuf, u64)> {
        let files: Vec<(PathBuf, InodeId)> = self.now.files.iter().map(|(p, i)| (p.clone(), *i)).collect();
        if files.is_empty() {
            return None;
        }
        let (path, id) = files[rng.below(files.len() as u64) as usize].clone();
        let at = self.inode_mut(id).flip(rng.any())?;
        Some((path, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathBuf {
        PathBuf::from(text)
    }

    fn names(disk: &Disk, dir: &str) -> Vec<String> {
        let listed = disk.list(Path::new(dir)).expect("a directory");
        listed.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn names_are_durable_after_a_sync_of_their_directory() {
        let mut disk = Disk::new(1 << 20);
        disk.make_dir(&path("/d")).expect("made");
        disk.sync_dir(&path("/")).expect("synced");
        disk.create(&path("/d/kept")).expect("made");
        disk.sync_dir(&path("/d")).expect("synced");
        disk.create(&path("/d/lost")).expect("made");
        disk.rename(&path("/d/kept"), &path("/d/moved")).expect("moved");
        assert_eq!(names(&disk, "/d"), ["lost", "moved"]);
        let losses = disk.cut(Cut::KeepNone, &mut Rng::new(1));
        assert_eq!((names(&disk, "/d"), losses.lost_names), (vec!["kept".to_owned()], 2));
    }

    #[test]
    fn what_a_failed_sync_lost_no_later_sync_brings_back() {
        let sector = |byte: u8| vec![byte; 4096];
        let first_bytes = |disk: &Disk, sectors: usize| {
            let mut out = vec![9; sectors * 4096];
            let len = disk.find(&path("/f")).expect("there").read(0, &mut out);
            out[..len].iter().step_by(4096).copied().collect::<Vec<u8>>()
        };
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut disk = Disk::new(1 << 20);
            let id = disk.create(&path("/f")).expect("made");
            disk.sync_dir(&path("/")).expect("synced");
            disk.write(id, 0, &[sector(1), sector(1)].concat()).expect("room");
            disk.sync(id);
            disk.write(id, 0, &[sector(2), sector(2)].concat()).expect("room");
            disk.fail_sync(id, &mut Rng::new(seed));
            assert_eq!(first_bytes(&disk, 2), [2, 2], "read from memory");
            disk.write(id, 8192, &sector(3)).expect("room");
            disk.sync(id);
            assert_eq!(first_bytes(&disk, 3), [2, 2, 3]);
            disk.cut(Cut::KeepAll, &mut Rng::new(seed));
            seen.insert(first_bytes(&disk, 3));
        }
        let torn: Vec<[u8; 3]> = vec![[1, 1, 3], [1, 2, 3], [2, 1, 3], [2, 2, 3]];
        assert!(seen.iter().eq(torn.iter()), "{seen:?}");
    }

    #[test]
    fn a_move_is_never_half_done() {
        for seed in 0..50 {
            let mut disk = Disk::new(1 << 20);
            disk.make_dir(&path("/a")).expect("made");
            disk.make_dir(&path("/b")).expect("made");
            disk.create(&path("/a/f")).expect("made");
            disk.sync_dir(&path("/")).expect("synced");
            disk.sync_dir(&path("/a")).expect("synced");
            disk.rename(&path("/a/f"), &path("/b/f")).expect("moved");
            disk.cut(Cut::Random, &mut Rng::new(seed));
            assert_eq!(names(&disk, "/a").len() + names(&disk, "/b").len(), 1, "seed {seed}");
        }
    }

    #[test]
    fn space_comes_back_when_the_last_handle_goes() {
        let mut disk = Disk::new(3 * 4096);
        let id = disk.create(&path("/f")).expect("made");
        disk.sync_dir(&path("/")).expect("synced");
        disk.allocate(id, 8192).expect("room");
        let refused = disk.allocate(id, 4 * 4096).expect_err("full");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        disk.unlink(&path("/f")).expect("there");
        assert_eq!(disk.used_bytes(), 8192);
        disk.close(id, 0);
        disk.sync_dir(&path("/")).expect("synced");
        assert_eq!(disk.used_bytes(), 0);
    }
}
