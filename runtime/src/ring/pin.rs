//! Pinned pages on the ring: what the kernel reads for them waits for its class' turn, as reads of files do. Called by `handle`.
//!
//! The permit lasts for as long as is read: neither for as long as the bytes are verified, nor as they stay pinned. Nothing else is
//! held while it is waited for but the share of memory. A longer stretch that is in the page cache already is not read: it takes
//! none. A short one takes one without a look, which would cost as much.

use super::blocking::{blocking, blocking_with};
use super::core::Ring;
use crate::buffer::Loan;
use crate::classes::READS_WAITING_MAX;
use crate::io::Class;
use crate::resident::{HUGE_BYTES_MIN, Resident, Unread};
use std::io;
use std::path::Path;

enum Looked<V> {
    /// It was in memory.
    Pinned(Option<Resident>),
    Unread(Unread, V),
}

/// Pins `len` bytes at `offset`, verified. `Ok(None)`: this machine does not let us.
pub(super) async fn pin<V: FnOnce(&[u8]) -> bool + Send + 'static>(
    ring: &Ring,
    path: &Path,
    (offset, len): (u64, usize),
    class: Class,
    (loan, verify): (Loan, V),
) -> io::Result<Option<Resident>> {
    let disk = ring.disks().of(path);
    let path = path.to_owned();
    if len < HUGE_BYTES_MIN {
        let permit = disk.start_long(class, len as u64, READS_WAITING_MAX).await?;
        let all = move || Resident::pin(&path, offset, len, loan, verify);
        return blocking_with(ring, permit, all).await;
    }
    let look = move || {
        let unread = Unread::map(&path, offset, len, loan)?;
        match unread.is_cached() {
            true => verified(unread.pin()?, verify).map(Looked::Pinned),
            false => Ok(Looked::Unread(unread, verify)),
        }
    };
    match blocking(ring, look).await? {
        Looked::Pinned(pages) => Ok(pages),
        Looked::Unread(unread, verify) => {
            let permit = disk.start_long(class, len as u64, READS_WAITING_MAX).await?;
            let pages = blocking_with(ring, permit, move || unread.pin()).await?;
            blocking(ring, move || verified(pages, verify)).await
        }
    }
}

fn verified(pages: Option<Resident>, verify: impl FnOnce(&[u8]) -> bool) -> io::Result<Option<Resident>> {
    pages.map(|pages| pages.verified(verify)).transpose()
}
