//! Pages of a directory. Those of `/by-digest/sha256` are merged from all columns in digest order. Called by `mount`.
//!
//! Invariants
//! 1. A page is whole entries; an empty one is the end of the directory.
//! 2. What is put on a page was there when the page was made; of READDIRPLUS each entry with a node counts one lookup.
//! 3. No state is kept between pages: the cookie says it all (`tree`).
//!
//! Units: bytes.

use super::Mount;
use super::ask::{Entered, NodeReply, NodeRequest};
use super::failure::Failure;
use super::tree::{self, NAME_BYTES};
use crate::api::{Reply, Request};
use fuse_lowlevel::{Attributes, DirectoryEntry, DirectoryPage, DirectoryPlusPage, Entry, Kind};
use runtime::io::Io;
use runtime::tier::{Digest, LIST_MAX};
use std::collections::BTreeMap;

/// `fuse_dirent` and a digest's name.
const ENTRY_BYTES: usize = 24 + NAME_BYTES;
/// `fuse_entry_out` before that.
const PLUS_BYTES: usize = 128;
/// The most that a page can hold, whatever is asked for.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Looks for a page of which anything is still there.
const LOOKS_MAX: usize = 8;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub directory: u64,
    /// 0 at the start, else that of the last entry taken.
    pub cookie: u64,
    pub size_bytes: usize,
    /// READDIRPLUS.
    pub plus: bool,
}

/// A page being written.
enum Writer<'b> {
    Plain(DirectoryPage<'b>),
    Plus(DirectoryPlusPage<'b>),
}

impl<'b> Writer<'b> {
    fn new(page: Page, buffer: &'b mut [u8]) -> Writer<'b> {
        if page.plus {
            Writer::Plus(DirectoryPlusPage::new(buffer))
        } else {
            Writer::Plain(DirectoryPage::new(buffer))
        }
    }

    fn push(&mut self, entry: &DirectoryEntry<'_>, found: Option<&Entry>) -> bool {
        match self {
            Writer::Plain(page) => page.push(entry),
            Writer::Plus(page) => page.push(entry, found),
        }
    }

    fn finish(self) -> usize {
        match self {
            Writer::Plain(page) => page.finish().len(),
            Writer::Plus(page) => page.finish().len(),
        }
    }
}

/// The page, and the nodes on it that count as looked up.
pub(super) type Listed = (Vec<u8>, Vec<u64>);

impl<I: Io> Mount<I> {
    /// A page.
    pub(super) async fn list(&self, page: Page) -> Result<Listed, Failure> {
        let mut buffer = vec![0; page.size_bytes.min(PAGE_BYTES_MAX)];
        let mut writer = Writer::new(page, &mut buffer);
        let dots = self.put_fixed(page, &mut writer);
        let mut nodes = Vec::new();
        if page.directory == tree::SHA256 && dots.fitted {
            let taken_bytes = dots.taken_bytes;
            let blobs = self.blobs(page, taken_bytes).await?;
            for entered in &blobs {
                let entry = entered.node.filter(|_| page.plus).map(|node| self.entry(node, entered));
                let name = entered.digest.hex();
                let pushed = writer.push(
                    &DirectoryEntry {
                        inode: tree::inode_number(&entered.digest),
                        next_offset: tree::cookie_after(&entered.digest),
                        kind: Kind::File,
                        name: &name,
                    },
                    entry.as_ref(),
                );
                assert!(pushed, "as many were asked for as fit");
                nodes.extend(entry.map(|entry| entry.node));
            }
        }
        let len = writer.finish();
        buffer.truncate(len);
        Ok((buffer, nodes))
    }

    /// `.`, `..` and the one directory in a fixed one.
    fn put_fixed(&self, page: Page, writer: &mut Writer<'_>) -> Fixed {
        let mut fixed = Fixed { fitted: true, taken_bytes: 0 };
        let parent = tree::parent_of(page.directory);
        let child = tree::child_of(page.directory);
        let entries = [Some((page.directory, &b"."[..])), Some((parent, b"..")), child];
        for (n, entry) in (0..).zip(entries) {
            let Some((inode, name)) = entry.filter(|_| n >= page.cookie && fixed.fitted) else { continue };
            let entry = DirectoryEntry { inode, next_offset: n + 1, kind: Kind::Directory, name };
            let found = (n == 2).then(|| self.directory_entry(inode));
            fixed.fitted = writer.push(&entry, found.as_ref());
            let before_bytes = if page.plus { PLUS_BYTES } else { 0 };
            fixed.taken_bytes += (before_bytes + 24 + name.len()).next_multiple_of(8);
        }
        fixed
    }

    /// The next blobs, as many as fit behind what was taken.
    async fn blobs(&self, page: Page, taken_bytes: usize) -> Result<Vec<Entered>, Failure> {
        let each = ENTRY_BYTES + if page.plus { PLUS_BYTES } else { 0 };
        let room = page.size_bytes.min(PAGE_BYTES_MAX).saturating_sub(taken_bytes) / each;
        let mut after = tree::after(page.cookie);
        if room == 0 {
            return Ok(Vec::new());
        }
        for _ in 0..LOOKS_MAX {
            // One more than fits, to see whether it shares its place with the last one.
            let limit = (room + 1).min(LIST_MAX);
            let blobs = self.listed(after, limit).await?;
            let shown = tree::whole_groups(&blobs, room, blobs.len() < limit);
            let blobs = &blobs[..shown];
            if blobs.is_empty() || !page.plus {
                let plain = |&(digest, size): &(Digest, u64)| Entered { node: None, digest, size };
                return Ok(blobs.iter().map(plain).collect());
            }
            let entered = self.entered(blobs).await?;
            if !entered.is_empty() {
                return Ok(entered);
            }
            // All of them went meanwhile: an empty page would be the end.
            after = blobs.last().map(|b| b.0);
        }
        Err(Failure::io("what is listed is gone before it can be shown, again and again"))
    }

    /// The next blobs of all columns.
    async fn listed(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, Failure> {
        let mut page = Vec::new();
        for column in 0..self.columns().count() {
            match self.columns().ask_column(column, Request::List(after, limit)).await {
                Ok(Reply::Page(Some(names))) => page.extend(names),
                Ok(Reply::Page(None)) => {
                    return Err(Failure::io("there may be more blobs, where they cannot be read"));
                }
                Ok(_) => unreachable!("a list has its own reply"),
                Err(busy) => return Err(Failure::io(busy)),
            }
        }
        page.sort_unstable();
        page.truncate(limit);
        Ok(page)
    }

    /// The nodes of blobs, in order; those that are gone are left out.
    async fn entered(&self, blobs: &[(Digest, u64)]) -> Result<Vec<Entered>, Failure> {
        let mut by_column: BTreeMap<usize, Vec<Digest>> = BTreeMap::new();
        for (digest, _) in blobs {
            by_column.entry(self.columns().owner_of(digest.shard())).or_default().push(*digest);
        }
        let mut entered = Vec::with_capacity(blobs.len());
        for (column, digests) in by_column {
            let request = Request::Node(self.connection(), NodeRequest::Enter(digests));
            match self.columns().ask_column(column, request).await {
                Ok(Reply::Node(NodeReply::Listed(nodes))) => entered.extend(nodes),
                // What was entered so far is not shown.
                _ => {
                    let nodes = entered.iter().filter_map(|e: &Entered| Some((e.node?, 1))).collect();
                    self.forget_later(nodes);
                    return Err(Failure::io("a column does not answer"));
                }
            }
        }
        entered.sort_unstable_by_key(|e| e.digest);
        Ok(entered)
    }

    fn entry(&self, node: u64, entered: &Entered) -> Entry {
        self.entry_of(node, self.looks().blob(&entered.digest, entered.size))
    }

    /// The entry of a directory.
    pub(super) fn directory_entry(&self, node: u64) -> Entry {
        self.entry_of(node, self.looks().directory(node))
    }

    /// What a name leads to.
    pub(super) fn entry_of(&self, node: u64, attributes: Attributes) -> Entry {
        let timeout = tree::TIMEOUT;
        Entry { node, generation: 0, entry_timeout: timeout, attribute_timeout: timeout, attributes }
    }
}

/// How far the fixed entries of a page came.
struct Fixed {
    fitted: bool,
    taken_bytes: usize,
}
