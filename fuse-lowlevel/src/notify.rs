//! Notifications: what the daemon tells the kernel unasked, as bytes for `Device::send`.
//!
//! Never sent by a thread that serves a queue: the kernel takes inode locks for them, which a LOOKUP or READ that waits for
//! this very thread may hold. `Sent::Unknown` means that the kernel does not know the inode, which is normal. A notification
//! cannot go over io_uring (EINVAL). Layouts: include/uapi/linux/fuse.h. Offsets and lengths in bytes.

use crate::OUT_HEADER_BYTES;

const NOTIFY_INVAL_INODE: i32 = 2;
const NOTIFY_INVAL_ENTRY: i32 = 3;
const NOTIFY_STORE: i32 = 4;

/// A file name's longest, as the kernel has it (`FUSE_NAME_MAX` without a terminating zero).
pub const NAME_BYTES_MAX: usize = 1024;

/// Length of the fixed messages: header and three words of eight bytes.
const WORDS_BYTES: usize = OUT_HEADER_BYTES + 24;

fn header(message: &mut [u8], length_bytes: usize, code: i32) {
    let length = u32::try_from(length_bytes).expect("a notification is far below 4 GiB");
    message[0..4].copy_from_slice(&length.to_ne_bytes());
    message[4..8].copy_from_slice(&code.to_ne_bytes());
    // unique = 0 is what tells a notification from a reply.
    message[8..16].fill(0);
}

/// Drops what is cached of `node`: its attributes, and its pages in `offset..offset + length` (all of them if `length` is 0
/// or less; none if `offset` is negative).
pub fn inval_inode(node: u64, offset: i64, length: i64) -> [u8; WORDS_BYTES] {
    let mut message = [0; WORDS_BYTES];
    header(&mut message, WORDS_BYTES, NOTIFY_INVAL_INODE);
    message[16..24].copy_from_slice(&node.to_ne_bytes());
    message[24..32].copy_from_slice(&offset.to_ne_bytes());
    message[32..40].copy_from_slice(&length.to_ne_bytes());
    message
}

/// Drops the cached answer, positive or negative, to a LOOKUP of `name` in the directory `parent`.
pub fn inval_entry(parent: u64, name: &[u8]) -> Vec<u8> {
    assert!(!name.is_empty() && name.len() <= NAME_BYTES_MAX, "a name of {} bytes", name.len());
    assert!(!name.contains(&0) && !name.contains(&b'/'), "not the name of one directory entry");
    let length_bytes = OUT_HEADER_BYTES + 16 + name.len() + 1;
    let mut message = vec![0; length_bytes];
    header(&mut message, length_bytes, NOTIFY_INVAL_ENTRY);
    message[16..24].copy_from_slice(&parent.to_ne_bytes());
    let name_bytes = u32::try_from(name.len()).expect("asserted above");
    message[24..28].copy_from_slice(&name_bytes.to_ne_bytes());
    message[32..32 + name.len()].copy_from_slice(name);
    message
}

/// The head of a message that puts `data_bytes` bytes into the page cache of `node` at `offset`; the data is the body. It
/// stays over an open only with FOPEN_KEEP_CACHE, and makes the file longer if it ends beyond it.
pub fn store(node: u64, offset: u64, data_bytes: u32) -> [u8; WORDS_BYTES] {
    let mut message = [0; WORDS_BYTES];
    header(&mut message, WORDS_BYTES + data_bytes as usize, NOTIFY_STORE);
    message[16..24].copy_from_slice(&node.to_ne_bytes());
    message[24..32].copy_from_slice(&offset.to_ne_bytes());
    message[32..36].copy_from_slice(&data_bytes.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

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
