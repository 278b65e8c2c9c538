//! The tree that a mount shows: `/by-digest/sha256/<hex>`, a suffix (`<hex>.safetensors`) being ignored. Pure.
//!
//! Called by `mount`. Directories have fixed nodes; a blob's node is given by the column that owns it (`inodes`). What stat(2)
//! shows as the inode number of a blob follows from its digest, so that it is the same after a restart.
//!
//! A cookie (the offset of a directory entry) names what comes next without any state: 0 is the start, 1 and 2 stand behind `.`
//! and `..`, what follows is the place of the last entry in the order of digests: their first 62 bits. Entries that come and
//! go meanwhile change no cookie. Digests that share these bits are shown on the same page or not at all, so that a cookie
//! never stands between them: [`whole_groups`].
//!
//! Units: seconds in timeouts, bytes elsewhere.

use super::inodes::BLOB_NODE_MIN;
use fuse_lowlevel::attributes::{Attributes, Kind, Timestamp};
use runtime::tier::Digest;
use std::time::Duration;

/// `/`.
pub const ROOT: u64 = 1;
/// `/by-digest`.
pub const BY_DIGEST: u64 = 2;
/// `/by-digest/sha256`.
pub const SHA256: u64 = 3;
const BY_DIGEST_NAME: &[u8] = b"by-digest";
const SHA256_NAME: &[u8] = b"sha256";

/// How long names and attributes are believed by the kernel.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// How long it is believed that there is no such name.
pub const NEGATIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The extended attribute that every blob has.
pub const DIGEST_XATTR: &[u8] = b"user.basalt.digest";
/// The list of them: each name with its NUL.
pub const XATTR_LIST: &[u8] = b"user.basalt.digest\0";

/// Digits of a digest's name.
pub const NAME_BYTES: usize = 64;
const DIRECTORY_PERMISSIONS: u16 = 0o555;
const FILE_PERMISSIONS: u16 = 0o444;
/// Bits of a digest in a cookie: an offset is a signed number to user space.
const PLACE_BITS: u32 = 62;
/// Cookies below this are of `.`, `..`, and the entries of fixed directories.
const PLACE_COOKIE_MIN: u64 = 3;
/// Set in inode numbers of blobs, which so differ from those of directories.
const BLOB_INODE: u64 = 1 << 62;

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A directory.
    Directory(u64),
    /// A blob, if there is one.
    Blob(Digest),
    /// Nothing, ever.
    Nothing,
}

/// What `name` leads to in the directory `parent`.
pub fn resolve(parent: u64, name: &[u8]) -> Named {
    match (parent, name) {
        (ROOT, BY_DIGEST_NAME) => Named::Directory(BY_DIGEST),
        (BY_DIGEST, SHA256_NAME) => Named::Directory(SHA256),
        (SHA256, name) => digest_of(name).map_or(Named::Nothing, Named::Blob),
        _ => Named::Nothing,
    }
}

/// 64 lower-case hex digits, and nothing else or a dot and a suffix.
fn digest_of(name: &[u8]) -> Option<Digest> {
    let (hex, suffix) = name.split_at_checked(NAME_BYTES)?;
    let is_name = matches!(suffix, [] | [b'.', _, ..]);
    if is_name { Digest::from_hex(hex).ok().filter(|digest| !digest.is_private()) } else { None }
}

/// Whether a node is one of the directories.
pub fn is_directory(node: u64) -> bool {
    (ROOT..=SHA256).contains(&node)
}

/// Whether a node may be a blob's.
pub fn is_blob(node: u64) -> bool {
    node >= BLOB_NODE_MIN
}

/// The directory that holds a directory.
pub fn parent_of(directory: u64) -> u64 {
    assert!(is_directory(directory), "{directory} is no directory");
    (directory - 1).max(ROOT)
}

/// The one directory in a directory, if it holds directories.
pub fn child_of(directory: u64) -> Option<(u64, &'static [u8])> {
    match directory {
        ROOT => Some((BY_DIGEST, BY_DIGEST_NAME)),
        BY_DIGEST => Some((SHA256, SHA256_NAME)),
        _ => None,
    }
}

/// Who owns everything, and when it came to be: the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looks {
    /// The daemon's.
    pub uid: u32,
    /// The daemon's.
    pub gid: u32,
    /// When the mount was made.
    pub time: Timestamp,
}

impl Looks {
    /// Attributes of a directory.
    pub fn directory(&self, node: u64) -> Attributes {
        let attributes = Attributes::new(node, Kind::Directory, DIRECTORY_PERMISSIONS, 0);
        // Its name, its `.`, and the `..` of the directory in it.
        let links = 2 + u32::from(child_of(node).is_some());
        self.dressed(Attributes { links, ..attributes })
    }

    /// Attributes of a blob.
    pub fn blob(&self, digest: &Digest, size: u64) -> Attributes {
        self.dressed(Attributes::new(inode_number(digest), Kind::File, FILE_PERMISSIONS, size))
    }

    fn dressed(&self, attributes: Attributes) -> Attributes {
        let Looks { uid, gid, time } = *self;
        Attributes { uid, gid, accessed: time, modified: time, changed: time, ..attributes }
    }
}

/// What stat(2) shows as the inode number of a blob.
pub fn inode_number(digest: &Digest) -> u64 {
    place(digest) | BLOB_INODE
}

/// The first bits of a digest.
fn place(digest: &Digest) -> u64 {
    let first = digest.0.first_chunk().expect("a digest has more than eight bytes");
    u64::from_be_bytes(*first) >> (u64::BITS - PLACE_BITS)
}

/// The cookie behind a blob's entry.
pub fn cookie_after(digest: &Digest) -> u64 {
    place(digest) + PLACE_COOKIE_MIN
}

/// The digest after which the entries behind a cookie begin; `None`: at the first one.
pub fn after(cookie: u64) -> Option<Digest> {
    let place = cookie.checked_sub(PLACE_COOKIE_MIN)?;
    let mut digest = [0xff; 32];
    let last = (place << (u64::BITS - PLACE_BITS)) | ((1 << (u64::BITS - PLACE_BITS)) - 1);
    digest[..8].copy_from_slice(&last.to_be_bytes());
    Some(Digest(digest))
}

/// How many of these blobs, in order, at most `room`, can be shown so that no cookie stands between two that share a place;
/// `is_all`: no other follows. (So many that they alone would fill a page nobody can find: then they are cut.)
pub fn whole_groups(blobs: &[(Digest, u64)], room: usize, is_all: bool) -> usize {
    let fits = blobs.len().min(room);
    if fits == blobs.len() && is_all {
        return fits;
    }
    let Some(last) = blobs[..fits].last() else { return 0 };
    let is_cut = match blobs.get(fits) {
        Some(next) => place(&next.0) == place(&last.0),
        // What follows is not known.
        None => true,
    };
    if !is_cut {
        return fits;
    }
    let group = blobs[..fits].iter().rev().take_while(|b| place(&b.0) == place(&last.0)).count();
    if group == fits { fits } else { fits - group }
}

/// Where data or a hole begins at or behind `offset`, in a file that is all data; `None`: beyond the end (ENXIO).
pub fn seek(offset: u64, size: u64, whence: u32) -> Option<Result<u64, BadWhence>> {
    let at = match whence {
        SEEK_DATA => offset,
        SEEK_HOLE => size,
        _ => return Some(Err(BadWhence)),
    };
    (offset < size).then_some(Ok(at))
}

/// Neither SEEK_DATA nor SEEK_HOLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWhence;

const SEEK_DATA: u32 = libc::SEEK_DATA as u32;
const SEEK_HOLE: u32 = libc::SEEK_HOLE as u32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_lead_where_they_should() {
        let digest = Digest::from_hex(HEX.as_bytes()).expect("valid");
        assert_eq!(resolve(ROOT, b"by-digest"), Named::Directory(BY_DIGEST));
        assert_eq!(resolve(BY_DIGEST, b"sha256"), Named::Directory(SHA256));
        assert_eq!(resolve(SHA256, HEX.as_bytes()), Named::Blob(digest));
        for suffix in [".safetensors", ".x", ".tar.gz", ".."] {
            assert_eq!(resolve(SHA256, format!("{HEX}{suffix}").as_bytes()), Named::Blob(digest));
        }
        for (parent, name) in [
            (ROOT, "sha256"),
            (ROOT, HEX),
            (BY_DIGEST, HEX),
            (SHA256, "by-digest"),
            (SHA256, ""),
            (SHA256, &HEX[1..]),
            (SHA256, &HEX.to_uppercase()),
            (SHA256, &format!("{HEX}.")),
            (SHA256, &format!("{HEX}x")),
            (SHA256, &format!("{HEX}0.x")),
            (300, HEX),
        ] {
            assert_eq!(resolve(parent, name.as_bytes()), Named::Nothing, "{name} in {parent}");
        }
    }

    #[test]
    fn looks_are_those_of_a_read_only_tree() {
        let looks = Looks { uid: 5, gid: 6, time: Timestamp { seconds: 7, nanoseconds: 8 } };
        let digest = Digest::from_hex(HEX.as_bytes()).expect("valid");
        let blob = looks.blob(&digest, 1_000_001);
        assert_eq!((blob.size_bytes, blob.blocks, blob.links), (1_000_001, 1954, 1));
        assert_eq!((blob.mode(), blob.uid, blob.gid), (libc::S_IFREG | 0o444, 5, 6));
        assert_eq!([blob.accessed, blob.modified, blob.changed], [looks.time; 3]);
        assert!(blob.inode > SHA256);
        let links = [ROOT, BY_DIGEST, SHA256].map(|node| looks.directory(node).links);
        assert_eq!((links, looks.directory(ROOT).mode()), ([3, 3, 2], libc::S_IFDIR | 0o555));
        assert_eq!([ROOT, BY_DIGEST, SHA256].map(parent_of), [ROOT, ROOT, BY_DIGEST]);
    }

    #[test]
    fn a_file_is_all_data() {
        for (offset, whence, expected) in [
            (0, SEEK_DATA, Some(Ok(0))),
            (99, SEEK_DATA, Some(Ok(99))),
            (0, SEEK_HOLE, Some(Ok(100))),
            (99, SEEK_HOLE, Some(Ok(100))),
            (100, SEEK_DATA, None),
            (100, SEEK_HOLE, None),
            (5, 0, Some(Err(BadWhence))),
        ] {
            assert_eq!(seek(offset, 100, whence), expected, "{offset} {whence}");
        }
        assert_eq!((seek(0, 0, SEEK_DATA), seek(0, 0, SEEK_HOLE)), (None, None));
    }

    fn digest() -> impl Strategy<Value = Digest> {
        // Few places, so that many share one.
        (0..40u64, 0..4u8, any::<bool>()).prop_map(|(place, rest, high)| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&(place << 2 | u64::from(rest)).to_be_bytes());
            bytes[31] = rest;
            if high {
                bytes[0] = 0xff;
            }
            Digest(bytes)
        })
    }

    proptest! {
        #[test]
        fn walking_by_cookies_shows_each_once_whatever_comes_and_goes(
            stays in proptest::collection::btree_set(digest(), 0..60),
            mut moves in proptest::collection::vec((digest(), any::<bool>()), 0..60),
            // Larger than any group.
            room in 33..50usize,
            listed in 50..60usize,
        ) {
            let mut blobs = stays.clone();
            let (mut cookie, mut seen) = (2, Vec::new());
            loop {
                let all: Vec<_> = blobs.iter().map(|d| (*d, 0)).filter(|b| Some(b.0) > after(cookie)).collect();
                let page = &all[..all.len().min(listed)];
                let shown = whole_groups(page, room, page.len() < listed);
                prop_assert!(shown <= room);
                if shown == 0 {
                    prop_assert!(page.is_empty());
                    break;
                }
                seen.extend(page[..shown].iter().map(|b| b.0));
                let next = cookie_after(&page[shown - 1].0);
                prop_assert!(next > cookie && next < 1 << 63);
                cookie = next;
                for (digest, comes) in moves.split_off(moves.len() - moves.len().min(7)) {
                    if !stays.contains(&digest) {
                        if comes { blobs.insert(digest); } else { blobs.remove(&digest); }
                    }
                }
            }
            prop_assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice");
            prop_assert!(stays.iter().all(|d| seen.contains(d)), "what is there all the time is shown");
        }
    }

    #[test]
    fn the_largest_cookie_is_an_offset() {
        assert!(cookie_after(&Digest([0xff; 32])) < 1 << 63);
        assert_eq!(after(cookie_after(&Digest([0xff; 32]))), Some(Digest([0xff; 32])));
        assert_eq!((after(0), after(2)), (None, None));
    }
}
