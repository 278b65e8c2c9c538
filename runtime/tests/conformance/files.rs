//! Files and names.

use super::{Place, file_in};
use runtime::io::{Class, File, Io, Open};
use std::future::Future;
use std::io::ErrorKind;
use std::rc::Rc;

async fn written<I: Io>(io: &I, file: &I::File, byte: u8, len: usize, offset: u64) {
    let mut buf = io.buffer(len).expect("memory");
    buf[..len].fill(byte);
    let (done, _buf) = file.write_at(buf, len, offset).await;
    done.expect("written");
}

async fn read<I: Io>(io: &I, file: &I::File, len: usize, offset: u64) -> Result<Vec<u8>, ErrorKind> {
    let mut buf = io.buffer(len).expect("memory");
    buf.fill(0xEE);
    let (done, buf) = file.read_at(buf, len, offset).await;
    done.map(|()| buf[..len].to_vec()).map_err(|e| e.kind())
}

pub async fn whole_transfers_and_the_end_of_the_file<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    let file = io.open(&file_in(&place.dir, "f"), Open::CreateDirect).await.expect("made");
    // More than one operation's worth.
    written(io, &file, 7, 3 << 20, 0).await;
    written(io, &file, 9, 4096, 3 << 20).await;
    assert_eq!(file.size().await.expect("size"), (3 << 20) + 4096);
    let back = read(io, &file, (3 << 20) + 4096, 0).await.expect("read");
    assert!(back[..3 << 20].iter().all(|&b| b == 7) && back[3 << 20..].iter().all(|&b| b == 9));
    file.truncate(5000).await.expect("cut");
    assert_eq!(read(io, &file, 5000, 0).await.expect("read"), vec![7; 5000]);
    assert_eq!(read(io, &file, 904, 4096).await.expect("read"), vec![7; 904]);
    assert_eq!(read(io, &file, 5001, 0).await, Err(ErrorKind::UnexpectedEof));
    assert_eq!(read(io, &file, 1, 8192).await, Err(ErrorKind::UnexpectedEof));
    assert_eq!(read(io, &file, 4096, 1 << 30).await, Err(ErrorKind::UnexpectedEof));
    // More than one operation's worth, of which the first are whole: none of it is said to be read.
    assert_eq!(read(io, &file, 3 << 20, 0).await, Err(ErrorKind::UnexpectedEof));
    assert_eq!(read(io, &file, 5000, 0).await.expect("no worse for that"), vec![7; 5000]);
}

pub async fn errors_have_their_numbers<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    let (here, there) = (file_in(&place.dir, "here"), file_in(&place.dir, "there"));
    drop(io.open(&here, Open::CreateDirect).await.expect("made"));
    let refused = |opened: std::io::Result<I::File>| opened.map(|_| ()).expect_err("refused").kind();
    assert_eq!(refused(io.open(&there, Open::ReadDirect).await), ErrorKind::NotFound);
    assert_eq!(refused(io.open(&there, Open::WriteDirect).await), ErrorKind::NotFound);
    assert_eq!(refused(io.open(&here, Open::CreateDirect).await), ErrorKind::AlreadyExists);
    let inside = file_in(&there, "inside");
    assert_eq!(refused(io.open(&inside, Open::CreateDirect).await), ErrorKind::NotFound);
    assert_eq!(io.unlink(&there).await.expect_err("no such file").kind(), ErrorKind::NotFound);
    assert_eq!(io.rename(&there, &here).await.expect_err("no such file").kind(), ErrorKind::NotFound);
    assert_eq!(io.sync_dir(&there).await.expect_err("no such dir").kind(), ErrorKind::NotFound);
    assert_eq!(io.list_dir(&there).await.expect_err("no such dir").kind(), ErrorKind::NotFound);
    assert_eq!(io.free_bytes(&there).await.expect_err("no such dir").kind(), ErrorKind::NotFound);
    let pinned = io.pin_resident(&there, 0, 4096, Class::Fill, |_| true).await;
    assert_eq!(pinned.expect_err("no such file").kind(), ErrorKind::NotFound);
}

pub async fn an_unlinked_file_lives_as_long_as_it_is_open<I: Io>(place: Rc<Place<I>>) {
    let (io, path) = (&place.io, file_in(&place.dir, "f"));
    let file = io.open(&path, Open::CreateDirect).await.expect("made");
    written(io, &file, 5, 8192, 0).await;
    let reader = io.open(&path, Open::ReadDirect).await.expect("opened");
    drop(file);
    io.unlink(&path).await.expect("removed");
    let again = io.open(&path, Open::CreateDirect).await.expect("the name is free");
    written(io, &again, 6, 4096, 0).await;
    assert_eq!(read(io, &reader, 8192, 0).await.expect("read"), vec![5; 8192]);
    assert_eq!(read(io, &again, 4096, 0).await.expect("read"), vec![6; 4096]);
}

pub async fn renaming_replaces<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    let (old, new) = (file_in(&place.dir, "old"), file_in(&place.dir, "new"));
    for (path, byte) in [(&old, 1), (&new, 2)] {
        let file = io.open(path, Open::CreateDirect).await.expect("made");
        written(io, &file, byte, 4096, 0).await;
    }
    let replaced = io.open(&new, Open::ReadDirect).await.expect("opened");
    io.rename(&old, &new).await.expect("renamed");
    io.sync_dir(&place.dir).await.expect("synced");
    let file = io.open(&new, Open::ReadDirect).await.expect("opened");
    assert_eq!(read(io, &file, 4096, 0).await.expect("read"), vec![1; 4096]);
    assert_eq!(read(io, &replaced, 4096, 0).await.expect("read"), vec![2; 4096]);
    let gone = io.open(&old, Open::ReadDirect).await.map(|_| ()).expect_err("renamed away");
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

pub async fn directories_are_made_once_and_list_their_files<I: Io>(place: Rc<Place<I>>) {
    let (io, dir) = (&place.io, place.dir.join("dir"));
    io.make_dir(&dir).await.expect("made");
    io.make_dir(&dir).await.expect("there already");
    io.make_dir(&dir.join("inner")).await.expect("made");
    io.sync_dir(&place.dir).await.expect("synced");
    for (name, len) in [("a", 0), ("b", 4096)] {
        let file = io.open(&dir.join(name), Open::CreateDirect).await.expect("made");
        if len > 0 {
            written(io, &file, 1, len, 0).await;
        }
    }
    drop(io.open(&dir.join("inner").join("c"), Open::CreateDirect).await.expect("made"));
    assert!(io.free_bytes(&dir).await.expect("seen") > 0, "what was written fitted");
    let mut found = io.list_dir(&dir).await.expect("listed");
    found.sort();
    assert_eq!(found, [("a".to_owned(), 0), ("b".to_owned(), 4096)], "files only, of this directory only");
    let nowhere = place.dir.join("no").join("where");
    assert_eq!(io.make_dir(&nowhere).await.expect_err("no parent").kind(), ErrorKind::NotFound);
}

pub async fn space_is_reserved_and_cut<I: Io>(place: Rc<Place<I>>) {
    let io = &place.io;
    let file = io.open(&file_in(&place.dir, "f"), Open::CreateDirect).await.expect("made");
    file.allocate(1 << 20).await.expect("room");
    assert_eq!(file.size().await.expect("size"), 1 << 20);
    assert_eq!(read(io, &file, 8192, 4096).await.expect("read"), vec![0; 8192], "zeros until written");
    file.allocate(4096).await.expect("there already");
    assert_eq!(file.size().await.expect("size"), 1 << 20, "never smaller");
    written(io, &file, 3, 8192, 0).await;
    file.truncate(6000).await.expect("cut");
    file.truncate(8192).await.expect("extended");
    let back = read(io, &file, 8192, 0).await.expect("read");
    assert!(back[..6000].iter().all(|&b| b == 3) && back[6000..].iter().all(|&b| b == 0));
    assert!(file.allocate(0).await.is_err(), "nothing cannot be reserved");
}

/// A write whose future is gone is done whole or not at all, and its buffer is not given out again before that is decided.
pub async fn dropped_operations_keep_their_buffers<I: Io>(place: Rc<Place<I>>) {
    const PIECE: usize = 64 << 10;
    let io = &place.io;
    let file = io.open(&file_in(&place.dir, "f"), Open::CreateDirect).await.expect("made");
    file.allocate(20 * PIECE as u64).await.expect("room");
    for round in 0..20 {
        let mut buf = io.buffer(PIECE).expect("memory");
        buf.fill(round as u8 + 1);
        {
            let mut write = Box::pin(file.write_at(buf, PIECE, (round * PIECE) as u64));
            let first = std::future::poll_fn(|cx| std::task::Poll::Ready(write.as_mut().poll(cx).is_ready()));
            assert!(!first.await, "no disk is that fast");
        }
        let mut other = io.buffer(PIECE).expect("memory");
        other.fill(0xFF);
        drop(other);
    }
    io.sleep(500_000_000).await;
    for round in 0..20 {
        let back = read(io, &file, PIECE, (round * PIECE) as u64).await.expect("read");
        let whole = back.iter().all(|&b| b == round as u8 + 1);
        assert!(whole || back.iter().all(|&b| b == 0), "round {round}: the buffer was reused too early");
    }
}

/// Polls once and drops: what the machine has begun then, nobody waits for.
async fn begin_and_drop<T>(operation: impl Future<Output = T>) {
    let mut operation = Box::pin(operation);
    std::future::poll_fn(|cx| {
        let _ = operation.as_mut().poll(cx);
        std::task::Poll::Ready(())
    })
    .await;
}

/// Memory of a read whose future is gone is nobody else's until the read is over, and the file works on.
pub async fn dropped_reads_spoil_nobodys_memory<I: Io>(place: Rc<Place<I>>) {
    const PIECE: usize = 64 << 10;
    let io = &place.io;
    let file = io.open(&file_in(&place.dir, "f"), Open::CreateDirect).await.expect("made");
    written(io, &file, 7, 20 * PIECE, 0).await;
    let mut others = Vec::new();
    for round in 0..20 {
        let buf = io.buffer(PIECE).expect("memory");
        begin_and_drop(file.read_at(buf, PIECE, (round * PIECE) as u64)).await;
        let mut other = io.buffer(PIECE).expect("memory");
        other.fill(0xFF);
        others.push(other);
    }
    begin_and_drop(file.sync_data()).await;
    io.sleep(500_000_000).await;
    assert!(others.iter().all(|other| other.iter().all(|&b| b == 0xFF)), "given out while it was read into");
    drop(others);
    assert_eq!(read(io, &file, 20 * PIECE, 0).await.expect("read"), vec![7; 20 * PIECE]);
    written(io, &file, 8, PIECE, 0).await;
    assert_eq!(read(io, &file, PIECE, 0).await.expect("read"), vec![8; PIECE]);
}

/// What was awaited is before what is begun then, through whatever handle, and whichever way it was written.
pub async fn awaited_writes_are_before_later_reads<I: Io>(place: Rc<Place<I>>) {
    let (io, path) = (&place.io, file_in(&place.dir, "f"));
    let file = io.open(&path, Open::CreateDirect).await.expect("made");
    file.allocate(64 << 10).await.expect("room");
    let other = io.open(&path, Open::WriteDirect).await.expect("opened");
    for n in 1..=60u8 {
        let (writer, reader) = if n % 2 == 0 { (&file, &other) } else { (&other, &file) };
        let mut buf = io.buffer(4096).expect("memory");
        buf[..4096].fill(n);
        let done = match n % 3 {
            0 => writer.write_sync(buf, 4096, 8192).await.0,
            _ => writer.write_at(buf, 4096, 8192).await.0,
        };
        done.expect("written");
        if n % 5 == 0 {
            reader.sync_data().await.expect("synced");
        }
        assert_eq!(read(io, reader, 4096, 8192).await.expect("read"), vec![n; 4096], "write {n}");
    }
}

/// Writes under way together reach their own places; a sync begun when all have been awaited is behind all of them.
pub async fn writes_together_stay_apart<I: Io>(place: Rc<Place<I>>) {
    const WRITES: usize = 32;
    let (io, path) = (&place.io, file_in(&place.dir, "f"));
    let file = io.open(&path, Open::CreateDirect).await.expect("made");
    file.allocate((WRITES * 4096) as u64).await.expect("room");
    let left = Rc::new(std::cell::Cell::new(WRITES));
    for n in (0..WRITES).rev() {
        let (io, file, left) = (place.io.clone(), file.clone(), left.clone());
        place.io.spawn("writer", async move {
            written(&io, &file, n as u8 + 1, 4096, (n * 4096) as u64).await;
            left.set(left.get() - 1);
        });
    }
    while left.get() > 0 {
        io.sleep(1_000_000).await;
    }
    file.sync_data().await.expect("synced");
    let other = io.open(&path, Open::ReadDirect).await.expect("opened");
    let back = read(io, &other, WRITES * 4096, 0).await.expect("read");
    assert!(back.chunks(4096).zip(1..).all(|(block, n)| block.iter().all(|&b| b == n)));
}

pub async fn writes_that_are_synced_are_there<I: Io>(place: Rc<Place<I>>) {
    let (io, path) = (&place.io, file_in(&place.dir, "f"));
    let file = io.open(&path, Open::CreateDirect).await.expect("made");
    file.allocate(4 << 20).await.expect("room");
    // Linked to its sync, and too long for that.
    for (byte, len, offset) in [(1, 64 << 10, 0), (2, 2 << 20, 64 << 10)] {
        let mut buf = io.buffer(len).expect("memory");
        buf[..len].fill(byte);
        let (synced, _buf) = file.write_sync(buf, len, offset).await;
        synced.expect("synced");
    }
    file.sync_data().await.expect("synced");
    io.sync_dir(&place.dir).await.expect("synced");
    let other = io.open(&path, Open::WriteDirect).await.expect("opened");
    assert_eq!(read(io, &other, 64 << 10, 0).await.expect("read"), vec![1; 64 << 10]);
    assert_eq!(read(io, &other, 2 << 20, 64 << 10).await.expect("read"), vec![2; 2 << 20]);
    let pages = io.pin_resident(&path, 4096, 8192, Class::Fill, |bytes| bytes.iter().all(|&b| b == 1)).await;
    if let Some(pages) = pages.expect("pinned or not, but no error") {
        assert_eq!(&pages[..], &vec![1; 8192][..]);
    }
    let refused = io.pin_resident(&path, 0, 4096, Class::Fill, |_| false).await.map(|pages| pages.is_some());
    assert!(!matches!(refused, Ok(true)), "bytes that were not verified");
}
