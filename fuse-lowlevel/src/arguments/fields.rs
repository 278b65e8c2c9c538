//! Operations with many fields. See `Arguments`.

use super::{Arguments, valid};
use crate::attributes::Timestamp;
use crate::negotiation::Offer;
use crate::operation::{CopyFileRange, Lock, Read, Release, SetAttributes, SetTime, SetupMapping, Write};
use crate::request::Defect;
use crate::wire::flags::{self, setattr};
use crate::wire::input::*;
use zerocopy::FromBytes;

impl<'r> Arguments<'r> {
    /// Of any length: it grew with the versions, and that of a newer major is not known beyond its version.
    pub(super) fn offer(&mut self) -> Result<Offer, Defect> {
        const VERSION_BYTES: usize = 8;
        const BYTES_OLD: usize = 16;
        let area = self.apart.unwrap_or(std::mem::take(&mut self.rest));
        let mut bytes = [0; size_of::<InitIn>()];
        let known = area.len().min(bytes.len());
        bytes[..known].copy_from_slice(&area[..known]);
        let offer = InitIn::read_from_bytes(&bytes).expect("the array is of its size");
        let needed = if offer.major == crate::wire::MAJOR { BYTES_OLD } else { VERSION_BYTES };
        if known < needed { Err(Defect::Argument(needed)) } else { Ok(Offer::new(&offer)) }
    }

    pub(super) fn read(&mut self) -> Result<Read, Defect> {
        let ReadIn { fh: handle, offset, size: size_bytes, read_flags, lock_owner, flags, .. } =
            self.first()?;
        let lock_owner = valid(read_flags, flags::READ_LOCKOWNER, lock_owner);
        Ok(Read { handle, offset, size_bytes, lock_owner, flags })
    }

    pub(super) fn write(&mut self) -> Result<Write<'r>, Defect> {
        let WriteIn { fh: handle, offset, size, write_flags, lock_owner, flags, .. } = self.first()?;
        Ok(Write {
            handle,
            offset,
            data: self.data(size)?,
            from_cache: write_flags & flags::WRITE_CACHE != 0,
            kill_suid_sgid: write_flags & flags::WRITE_KILL_SUIDGID != 0,
            lock_owner: valid(write_flags, flags::WRITE_LOCKOWNER, lock_owner),
            flags,
        })
    }

    pub(super) fn release(&mut self) -> Result<Release, Defect> {
        let ReleaseIn { fh: handle, flags, release_flags, lock_owner } = self.first()?;
        let flush = release_flags & flags::RELEASE_FLUSH != 0;
        let unlock = release_flags & flags::RELEASE_FLOCK_UNLOCK != 0;
        Ok(Release { handle, flags, flush, unlock, lock_owner })
    }

    pub(super) fn lock(&mut self) -> Result<Lock, Defect> {
        let LkIn { fh: handle, owner, lk: lock, lk_flags, .. } = self.first()?;
        Ok(Lock { handle, owner, lock, flock: lk_flags & flags::LK_FLOCK != 0 })
    }

    pub(super) fn copy_file_range(&mut self) -> Result<CopyFileRange, Defect> {
        let argument: CopyFileRangeIn = self.first()?;
        Ok(CopyFileRange {
            handle: argument.fh_in,
            offset: argument.off_in,
            into_node: argument.nodeid_out,
            into_handle: argument.fh_out,
            into_offset: argument.off_out,
            len_bytes: argument.len,
            flags: argument.flags,
        })
    }

    pub(super) fn setup_mapping(&mut self) -> Result<SetupMapping, Defect> {
        let SetupmappingIn { fh: handle, foffset: offset, len: len_bytes, flags, moffset: window_offset } =
            self.first()?;
        let (read, write) = (flags & flags::SETUPMAPPING_READ != 0, flags & flags::SETUPMAPPING_WRITE != 0);
        Ok(SetupMapping { handle, offset, len_bytes, read, write, window_offset })
    }

    pub(super) fn set_attributes(&mut self) -> Result<SetAttributes, Defect> {
        let argument: SetattrIn = self.first()?;
        let which = argument.valid;
        let accessed = set_time(
            which & setattr::ATIME_NOW != 0,
            valid(which, setattr::ATIME, argument.atime),
            argument.atimensec,
        )?;
        let modified = set_time(
            which & setattr::MTIME_NOW != 0,
            valid(which, setattr::MTIME, argument.mtime),
            argument.mtimensec,
        )?;
        let changed = match valid(which, setattr::CTIME, argument.ctime) {
            Some(seconds) => Some(timestamp(seconds, argument.ctimensec)?),
            None => None,
        };
        Ok(SetAttributes {
            handle: valid(which, setattr::FH, argument.fh),
            mode: valid(which, setattr::MODE, argument.mode),
            uid: valid(which, setattr::UID, argument.uid),
            gid: valid(which, setattr::GID, argument.gid),
            size_bytes: valid(which, setattr::SIZE, argument.size),
            accessed,
            modified,
            changed,
            lock_owner: valid(which, setattr::LOCKOWNER, argument.lock_owner),
            kill_suid_sgid: which & setattr::KILL_SUIDGID != 0,
        })
    }
}

/// `now` goes before the time, which the kernel sends along with it.
fn set_time(now: bool, seconds: Option<u64>, nanoseconds: u32) -> Result<Option<SetTime>, Defect> {
    match seconds {
        _ if now => Ok(Some(SetTime::Now)),
        Some(seconds) => Ok(Some(SetTime::At(timestamp(seconds, nanoseconds)?))),
        None => Ok(None),
    }
}

fn timestamp(seconds: u64, nanoseconds: u32) -> Result<Timestamp, Defect> {
    const NANOSECONDS_END: u32 = 1_000_000_000;
    if nanoseconds >= NANOSECONDS_END {
        return Err(Defect::Time(nanoseconds));
    }
    Ok(Timestamp { seconds: seconds as i64, nanoseconds })
}
