//! Directory pages: whole records, padded, each with the offset of the next, and never more than the buffer.

use fuse_lowlevel::attributes::{Attributes, Entry, Kind};
use fuse_lowlevel::wire::output::{Dirent, EntryOut};
use fuse_lowlevel::{DirectoryEntry, DirectoryPage, DirectoryPlusPage};
use proptest::prelude::*;
use std::time::Duration;
use zerocopy::FromBytes;

/// What the kernel's parse_dirfile and parse_dirplusfile make of a page: node, offset and name of each entry.
fn read_page(mut page: &[u8], plus: bool) -> Vec<(u64, u64, Vec<u8>)> {
    let mut entries = vec![];
    while !page.is_empty() {
        let (node, rest) = if plus {
            let (found, rest) = EntryOut::read_from_prefix(page).expect("a whole entry");
            (found.nodeid, rest)
        } else {
            (0, page)
        };
        let (head, rest) = Dirent::read_from_prefix(rest).expect("a whole head");
        let name = rest[..head.namelen as usize].to_vec();
        assert!(!name.is_empty() && head.r#type == 8 && head.ino == head.off + 1000);
        let used = page.len() - rest.len() + name.len();
        let record = used.next_multiple_of(8);
        assert!(page[used..record].iter().all(|byte| *byte == 0), "what was in the buffer does not leak");
        entries.push((node, head.off, name));
        page = &page[record..];
    }
    entries
}

fn found(node: u64) -> Entry {
    let attributes = Attributes::new(node, Kind::File, 0o444, 1);
    let timeout = Duration::from_secs(5);
    Entry { node, generation: 0, entry_timeout: timeout, attribute_timeout: timeout, attributes }
}

fn one<'n>(at: usize, name: &'n [u8]) -> DirectoryEntry<'n> {
    let next_offset = at as u64 + 1;
    DirectoryEntry { inode: next_offset + 1000, next_offset, kind: Kind::File, name }
}

/// Page by page from where the last one said to go on.
fn list(names: &[Vec<u8>], page_bytes: usize, plus: bool) -> Vec<(u64, u64, Vec<u8>)> {
    let mut all = vec![];
    let mut from = 0;
    loop {
        let mut buffer = vec![0xee; page_bytes];
        let rest = names.iter().enumerate().skip(from);
        let page = if plus {
            let mut page = DirectoryPlusPage::new(&mut buffer);
            for (at, name) in rest {
                // Every third is only shown.
                let found = (at % 3 > 0).then(|| found(at as u64));
                if !page.push(&one(at, name), found.as_ref()) {
                    break;
                }
            }
            page.finish()
        } else {
            let mut page = DirectoryPage::new(&mut buffer);
            let _full = rest.map(|(at, name)| page.push(&one(at, name))).find(|fitted| !fitted);
            page.finish()
        };
        let entries = read_page(page, plus);
        let Some((_, next, _)) = entries.last() else { return all };
        from = *next as usize;
        all.extend(entries);
    }
}

#[test]
fn a_record_is_as_the_header_has_it() {
    let mut buffer = [0xee; 64];
    let mut page = DirectoryPage::new(&mut buffer);
    assert!(page.is_empty());
    assert!(page.push(&DirectoryEntry { inode: 5, next_offset: 6, kind: Kind::Directory, name: b"abc" }));
    assert!(!page.is_empty());
    let wide = [5u64, 6].map(u64::to_ne_bytes).concat();
    let expected = [&wide[..], &3u32.to_ne_bytes(), &4u32.to_ne_bytes(), b"abc\0\0\0\0\0"].concat();
    assert_eq!(page.finish(), expected);
}

/// A record that just fits is taken, one byte less is not and leaves the page as it was.
#[test]
fn what_does_not_fit_changes_nothing() {
    for (bytes, fits) in [(32, true), (31, false), (24, false), (0, false)] {
        let mut buffer = vec![0xee; bytes];
        let mut page = DirectoryPage::new(&mut buffer);
        assert_eq!(page.push(&one(0, b"12345678")), fits);
        assert_eq!(page.finish().len(), if fits { 32 } else { 0 });
        assert!(fits || buffer.iter().all(|byte| *byte == 0xee));
    }
}

#[test]
fn names_that_the_kernel_refuses_are_not_written() {
    for name in [&b""[..], b"a/b", b"a\0b", &[b'a'; 1025]] {
        let pushed = std::panic::catch_unwind(|| DirectoryPage::new(&mut [0; 4096]).push(&one(0, name)));
        assert!(pushed.is_err(), "{}", name.escape_ascii());
    }
    assert!(DirectoryPage::new(&mut [0; 4096]).push(&one(0, &[b'a'; 1024])));
}

proptest! {
    /// Each entry once, in order, whatever the size of names and pages.
    #[test]
    fn pages_list_a_directory(
        names in prop::collection::vec(prop::collection::vec(1u8..b'.', 1..80), 0..60),
        page_bytes in 240usize..2000,
        plus: bool,
    ) {
        let listed = list(&names, page_bytes, plus);
        let expected: Vec<_> = names.iter().enumerate().map(|(at, name)| {
            let node = if plus && at % 3 > 0 { at as u64 } else { 0 };
            (node, at as u64 + 1, name.clone())
        }).collect();
        prop_assert_eq!(listed, expected);
    }
}
