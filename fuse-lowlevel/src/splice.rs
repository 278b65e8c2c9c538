//! Replies whose data are pages of a file: file → pipe → device, without a copy in user space.
//!
//! One pipe per queue, sized once. Worth it for data that is in the page cache of a file; from memory, writev is as fast.
//! Invariants: the pipe is empty between replies (after any failure it is replaced: residue would begin the next reply);
//! a reply goes whole or not at all; nothing waits (a thread that waits for its own pipe never wakes). SPLICE_F_MOVE is not
//! used: it takes pages out of the source's cache. File pages not in the cache are read synchronously: callers splice only
//! what is resident. Lengths in bytes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use thiserror::Error;

use crate::device::{Device, Sent};
use crate::reply::HEADER_BYTES;

/// Why nothing was sent. The request is still open: answer it another way.
#[derive(Debug, Error)]
pub enum SpliceError {
    /// More pages than the pipe has slots.
    #[error("the reply has more pages than the pipe has slots")]
    TooLong,
    /// The file ends, or its pages could not be had, before the whole length.
    #[error("the file gave only {had_bytes} bytes")]
    Short {
        /// What of the data there was.
        had_bytes: usize,
    },
    /// A system call failed.
    #[error("splice: {0}")]
    System(#[from] io::Error),
}

impl From<Errno> for SpliceError {
    fn from(errno: Errno) -> SpliceError {
        SpliceError::System(errno.into())
    }
}

/// The pipe of one queue.
#[derive(Debug)]
pub struct SplicePipe {
    /// Absent after a failure, until the next reply makes a new one.
    ends: Option<Ends>,
    slots: usize,
    page_bytes: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Ends {
    /// A pipe of exactly `size_bytes`: one that came out smaller would be found out by a reply that does not fit.
    fn new(size_bytes: usize) -> io::Result<Ends> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let got_bytes = rustix::pipe::fcntl_setpipe_size(&write, size_bytes)?;
        if got_bytes < size_bytes {
            return Err(io::Error::other(format!("a pipe of {got_bytes} bytes instead of {size_bytes}")));
        }
        Ok(Ends { read, write })
    }
}

impl SplicePipe {
    /// A pipe for `size_bytes`, a power of two pages. Above `/proc/sys/fs/pipe-max-size` (1 MiB by default) it needs
    /// CAP_SYS_RESOURCE, else EPERM.
    pub fn new(size_bytes: usize) -> io::Result<SplicePipe> {
        let page_bytes = rustix::param::page_size();
        assert!(size_bytes >= 2 * page_bytes, "a header and a page need two slots");
        assert!((size_bytes / page_bytes).is_power_of_two() && size_bytes.is_multiple_of(page_bytes));
        Ok(SplicePipe { ends: Some(Ends::new(size_bytes)?), slots: size_bytes / page_bytes, page_bytes })
    }

    /// Whether a reply with `length` bytes of a file at `offset` fits: a slot for every page it touches, one for its head.
    pub fn fits(&self, offset: u64, length: usize) -> bool {
        let lead = (offset % self.page_bytes as u64) as usize;
        length <= self.slots * self.page_bytes && (lead + length).div_ceil(self.page_bytes) < self.slots
    }

    /// Answers with `head` and `length` bytes of `file` at `offset`. On `Err` nothing reached the device.
    pub fn send(
        &mut self,
        device: &Device,
        head: &[u8],
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
    ) -> Result<Sent, SpliceError> {
        assert!(head.len() >= HEADER_BYTES && head.len() <= self.page_bytes);
        if !self.fits(offset, length) {
            return Err(SpliceError::TooLong);
        }
        let ends = match self.ends.take() {
            Some(ends) => ends,
            None => Ends::new(self.slots * self.page_bytes)?,
        };
        ends.fill(head, file, offset, length)?;
        let sent = ends.flush(device, head.len() + length)?;
        if sent == Sent::Delivered {
            self.ends = Some(ends);
        }
        Ok(sent)
    }
}

impl Ends {
    fn fill(&self, head: &[u8], file: BorrowedFd<'_>, offset: u64, length: usize) -> Result<(), SpliceError> {
        let written = rustix::io::write(&self.write, head)?;
        assert!(written == head.len(), "an empty pipe takes a page whole");
        let mut at = offset;
        let mut had_bytes = 0;
        while had_bytes < length {
            let want = length - had_bytes;
            match rustix::pipe::splice(file, Some(&mut at), &self.write, None, want, SpliceFlags::NONBLOCK) {
                Ok(0) | Err(Errno::AGAIN) => return Err(SpliceError::Short { had_bytes }),
                Ok(more) => had_bytes += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        assert!(had_bytes == length);
        Ok(())
    }

    /// One splice: the device takes a reply whole or refuses it.
    fn flush(&self, device: &Device, total: usize) -> Result<Sent, SpliceError> {
        match rustix::pipe::splice(&self.read, None, device, None, total, SpliceFlags::NONBLOCK) {
            Ok(taken) => {
                assert!(taken == total, "the device took {taken} of {total} bytes");
                Ok(Sent::Delivered)
            }
            Err(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => Ok(Sent::Unknown),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_kept_for_the_head() {
        let page = rustix::param::page_size();
        let pipe = SplicePipe::new(16 * page).unwrap();
        assert!(pipe.fits(0, 15 * page));
        assert!(!pipe.fits(0, 15 * page + 1));
        assert!(pipe.fits(1, 15 * page - 1), "begins and ends inside 15 pages");
        assert!(!pipe.fits(1, 15 * page), "touches 16 pages");
        assert!(!pipe.fits(0, usize::MAX), "no overflow");
    }
}
