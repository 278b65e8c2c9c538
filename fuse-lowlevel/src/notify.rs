//! Notifications: what the daemon tells the kernel unasked, as bytes for `Device::send`.
//!
//! Never sent by a thread that serves a queue: the kernel takes inode locks for them, which a LOOKUP or READ that waits for
//! this very thread may hold. `Sent::Unknown` means that the kernel does not know the inode, which is normal. A notification
//! cannot go over io_uring (EINVAL). Layouts: include/uapi/linux/fuse.h. Offsets and lengths in bytes.

use zerocopy::{Immutable, IntoBytes};

use crate::directory::NAME_BYTES_MAX;
use crate::reply::HEADER_BYTES;
use crate::wire::notify::{
    INVAL_ENTRY, INVAL_INODE, NotifyInvalEntryOut, NotifyInvalInodeOut, NotifyPruneOut, NotifyStoreOut,
    PRUNE, STORE,
};
use crate::wire::output::OutHeader;

/// Nodes of one `prune`: what the kernel looks at in one go.
pub const PRUNE_MAX: usize = 512;

/// Length of the fixed messages: header and three words of eight bytes.
const WORDS_BYTES: usize = HEADER_BYTES + 24;

/// Header and fixed part of a message that is followed by `rest_bytes` more.
fn message<const BYTES: usize>(
    code: i32,
    fixed: &(impl IntoBytes + Immutable),
    rest_bytes: usize,
) -> [u8; BYTES] {
    let len = u32::try_from(BYTES + rest_bytes).expect("a notification is far below 4 GiB");
    let mut message = [0; BYTES];
    // unique = 0 is what tells a notification from a reply.
    message[..HEADER_BYTES].copy_from_slice(OutHeader { len, error: code, unique: 0 }.as_bytes());
    message[HEADER_BYTES..].copy_from_slice(fixed.as_bytes());
    message
}

/// Drops what is cached of `node`: its attributes, and its pages in `offset..offset + length` (all of them if `length` is 0
/// or less; none if `offset` is negative).
pub fn inval_inode(node: u64, offset: i64, length: i64) -> [u8; WORDS_BYTES] {
    message(INVAL_INODE, &NotifyInvalInodeOut { ino: node, off: offset, len: length }, 0)
}

/// Drops the cached answer, positive or negative, to a LOOKUP of `name` in the directory `parent`.
pub fn inval_entry(parent: u64, name: &[u8]) -> Vec<u8> {
    assert!(!name.is_empty() && name.len() <= NAME_BYTES_MAX, "a name of {} bytes", name.len());
    assert!(!name.contains(&0) && !name.contains(&b'/'), "not the name of one directory entry");
    let namelen = u32::try_from(name.len()).expect("asserted above");
    let fixed = NotifyInvalEntryOut { parent, namelen, flags: 0 };
    let head: [u8; HEADER_BYTES + 16] = message(INVAL_ENTRY, &fixed, name.len() + 1);
    [&head[..], name, &[0]].concat()
}

/// The head of a message that puts `data_bytes` bytes into the page cache of `node` at `offset`; the data is the body. It
/// stays over an open only with FOPEN_KEEP_CACHE, and makes the file longer if it ends beyond it.
pub fn store(node: u64, offset: u64, data_bytes: u32) -> [u8; WORDS_BYTES] {
    let fixed = NotifyStoreOut { nodeid: node, offset, size: data_bytes, padding: 0 };
    message(STORE, &fixed, data_bytes as usize)
}

/// Drops the names of those of `nodes` that nobody uses, and with them what is cached of them; FORGET follows. Version 7.45.
pub fn prune(nodes: &[u64]) -> Vec<u8> {
    assert!(nodes.len() <= PRUNE_MAX, "{} nodes", nodes.len());
    let fixed = NotifyPruneOut { count: nodes.len() as u32, padding: 0, spare: 0 };
    let head: [u8; HEADER_BYTES + 16] = message(PRUNE, &fixed, size_of_val(nodes));
    [&head[..], nodes.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_to_be_pruned_are_counted() {
        let message = prune(&[7, 0x0102]);
        assert_eq!(message.len(), 16 + 16 + 16);
        assert_eq!(message[0..8], [48u32.to_ne_bytes(), 9u32.to_ne_bytes()].concat());
        assert_eq!(message[16..24], 2u64.to_le_bytes());
        assert_eq!(message[32..], [7u64.to_ne_bytes(), 0x0102u64.to_ne_bytes()].concat());
    }

    #[test]
    fn an_entry_is_named_with_its_zero() {
        let message = inval_entry(1, b"big");
        assert_eq!(message.len(), 16 + 16 + 4);
        assert_eq!(message[0..4], 36u32.to_ne_bytes());
        assert_eq!(message[4..8], 3i32.to_ne_bytes());
        assert_eq!(message[8..16], [0; 8]);
        assert_eq!(message[24..28], 3u32.to_ne_bytes(), "the length does not count the zero");
        assert_eq!(&message[32..], b"big\0");
    }

    #[test]
    fn a_store_is_as_long_as_its_data() {
        let head = store(7, 4096, 512);
        assert_eq!(head[0..4], (40u32 + 512).to_ne_bytes());
        assert_eq!(head[24..32], 4096u64.to_ne_bytes());
        assert_eq!(head[32..36], 512u32.to_ne_bytes());
    }

    #[test]
    #[should_panic(expected = "not the name of one directory entry")]
    fn a_path_is_no_name() {
        inval_entry(1, b"a/b");
    }
}
