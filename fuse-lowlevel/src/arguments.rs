//! Takes an operation out of the bytes behind a request's header, from the front, every length checked.
//!
//! The classic transport has everything in a row. That of io_uring has the first argument, if it is a structure, in an area of its
//! own, zero padded; where there is none (LOOKUP) the area is zero and the name is all of the payload.

mod fields;

use crate::operation::{Create, Fallocate, Ioctl, Operation, Poll};
use crate::records::Records;
use crate::request::Defect;
use crate::wire::flags;
use crate::wire::input::*;
use crate::wire::opcode;
use zerocopy::FromBytes;

/// What is left of a request.
pub(crate) struct Arguments<'r> {
    /// The area of the first argument, if it is apart.
    apart: Option<&'r [u8]>,
    rest: &'r [u8],
}

impl<'r> Arguments<'r> {
    pub(crate) fn joined(rest: &'r [u8]) -> Arguments<'r> {
        Arguments { apart: None, rest }
    }

    pub(crate) fn apart(argument: &'r [u8], payload: &'r [u8]) -> Arguments<'r> {
        Arguments { apart: Some(argument), rest: payload }
    }

    /// The first argument of the operation.
    fn first<T: FromBytes>(&mut self) -> Result<T, Defect> {
        let area = self.apart.unwrap_or(self.rest);
        let (argument, behind) = T::read_from_prefix(area).map_err(|_| Defect::Argument(size_of::<T>()))?;
        if self.apart.is_none() {
            self.rest = behind;
        }
        Ok(argument)
    }

    /// Up to the next NUL, which is taken too.
    fn text(&mut self) -> Result<&'r [u8], Defect> {
        let end = self.rest.iter().position(|&byte| byte == 0).ok_or(Defect::Name)?;
        let (text, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        if text.is_empty() { Err(Defect::Name) } else { Ok(text) }
    }

    /// A text that can be an entry of a directory.
    fn name(&mut self) -> Result<&'r [u8], Defect> {
        let name = self.text()?;
        if name.contains(&b'/') { Err(Defect::Name) } else { Ok(name) }
    }

    /// All that is left, which the argument said is so long.
    fn data(&mut self, len_bytes: u32) -> Result<&'r [u8], Defect> {
        if self.rest.len() != len_bytes as usize {
            return Err(Defect::Data);
        }
        Ok(std::mem::take(&mut self.rest))
    }

    fn records<T>(&mut self, count: u32) -> Result<Records<'r, T>, Defect> {
        Records::new(std::mem::take(&mut self.rest), count).ok_or(Defect::Data)
    }

    /// Nothing may be left behind it.
    pub(crate) fn operation(mut self, opcode: u32) -> Result<Operation<'r>, Defect> {
        let operation = match opcode {
            opcode::INIT => Operation::Init(self.offer()?),
            opcode::DESTROY => Operation::Destroy,
            opcode::INTERRUPT => Operation::Interrupt { unique: self.first::<InterruptIn>()?.unique },
            opcode::FORGET => Operation::Forget { lookups: self.first::<ForgetIn>()?.nlookup },
            opcode::BATCH_FORGET => {
                let count = self.first::<BatchForgetIn>()?.count;
                Operation::BatchForget(self.records(count)?)
            }
            opcode::LOOKUP => Operation::Lookup { name: self.name()? },
            opcode::GETATTR => {
                let GetattrIn { getattr_flags, fh, .. } = self.first()?;
                Operation::GetAttr { handle: valid(getattr_flags, flags::GETATTR_FH, fh) }
            }
            opcode::STATX => {
                let StatxIn { getattr_flags, fh, sx_flags, sx_mask, .. } = self.first()?;
                let handle = valid(getattr_flags, flags::GETATTR_FH, fh);
                Operation::Statx { handle, flags: sx_flags, mask: sx_mask }
            }
            opcode::READLINK => Operation::ReadLink,
            opcode::ACCESS => Operation::Access { mask: self.first::<AccessIn>()?.mask },
            opcode::STATFS => Operation::StatFs,
            opcode::GETXATTR => {
                let size_bytes = self.first::<GetxattrIn>()?.size;
                Operation::GetXattr { name: self.text()?, size_bytes }
            }
            opcode::LISTXATTR => Operation::ListXattr { size_bytes: self.first::<GetxattrIn>()?.size },
            _ => match self.of_handle(opcode)? {
                Some(operation) => operation,
                None => match self.of_change(opcode)? {
                    Some(operation) => operation,
                    None => self.of_rare(opcode)?,
                },
            },
        };
        if self.rest.is_empty() { Ok(operation) } else { Err(Defect::Trailing(self.rest.len())) }
    }

    /// What reads through a handle.
    fn of_handle(&mut self, opcode: u32) -> Result<Option<Operation<'r>>, Defect> {
        Ok(Some(match opcode {
            opcode::OPEN => {
                let OpenIn { flags, open_flags } = self.first()?;
                Operation::Open { flags, kill_suid_sgid: open_flags & flags::OPEN_KILL_SUIDGID != 0 }
            }
            opcode::OPENDIR => Operation::OpenDir { flags: self.first::<OpenIn>()?.flags },
            opcode::READ => Operation::Read(self.read()?),
            opcode::READDIR => Operation::ReadDir(self.read()?),
            opcode::READDIRPLUS => Operation::ReadDirPlus(self.read()?),
            opcode::LSEEK => {
                let LseekIn { fh: handle, offset, whence, .. } = self.first()?;
                Operation::Lseek { handle, offset, whence }
            }
            opcode::FLUSH => {
                let FlushIn { fh: handle, lock_owner, .. } = self.first()?;
                Operation::Flush { handle, lock_owner }
            }
            opcode::RELEASE => Operation::Release(self.release()?),
            opcode::RELEASEDIR => Operation::ReleaseDir(self.release()?),
            _ => return Ok(None),
        }))
    }

    /// What modifies.
    fn of_change(&mut self, opcode: u32) -> Result<Option<Operation<'r>>, Defect> {
        Ok(Some(match opcode {
            opcode::SETATTR => Operation::SetAttr(self.set_attributes()?),
            opcode::SYMLINK => Operation::SymLink { name: self.name()?, target: self.text()? },
            opcode::MKNOD => {
                let MknodIn { mode, rdev: device, umask, .. } = self.first()?;
                Operation::MkNod { name: self.name()?, mode, device, umask }
            }
            opcode::MKDIR => {
                let MkdirIn { mode, umask } = self.first()?;
                Operation::MkDir { name: self.name()?, mode, umask }
            }
            opcode::UNLINK => Operation::Unlink { name: self.name()? },
            opcode::RMDIR => Operation::RmDir { name: self.name()? },
            opcode::RENAME => {
                let into_node = self.first::<RenameIn>()?.newdir;
                Operation::Rename { name: self.name()?, into_node, into_name: self.name()?, flags: 0 }
            }
            opcode::RENAME2 => {
                let Rename2In { newdir: into_node, flags, .. } = self.first()?;
                Operation::Rename { name: self.name()?, into_node, into_name: self.name()?, flags }
            }
            opcode::LINK => {
                let node = self.first::<LinkIn>()?.oldnodeid;
                Operation::Link { node, name: self.name()? }
            }
            opcode::CREATE => {
                let argument = self.first()?;
                Operation::Create(create(argument, self.name()?))
            }
            // Its name is that of no entry: the kernel sends "/".
            opcode::TMPFILE => {
                let argument = self.first()?;
                Operation::TmpFile(create(argument, self.text()?))
            }
            opcode::WRITE => Operation::Write(self.write()?),
            opcode::FALLOCATE => {
                let FallocateIn { fh: handle, offset, length: len_bytes, mode, .. } = self.first()?;
                Operation::Fallocate(Fallocate { handle, offset, len_bytes, mode })
            }
            opcode::COPY_FILE_RANGE => Operation::CopyFileRange(self.copy_file_range()?),
            opcode::COPY_FILE_RANGE_64 => Operation::CopyFileRange64(self.copy_file_range()?),
            opcode::SETXATTR => {
                let SetxattrIn { size, flags } = self.first()?;
                Operation::SetXattr { name: self.text()?, value: self.data(size)?, flags }
            }
            opcode::REMOVEXATTR => Operation::RemoveXattr { name: self.text()? },
            _ => return Ok(None),
        }))
    }

    /// Syncs, locks, and what few file systems have.
    fn of_rare(&mut self, opcode: u32) -> Result<Operation<'r>, Defect> {
        Ok(match opcode {
            opcode::FSYNC | opcode::FSYNCDIR => {
                let FsyncIn { fh: handle, fsync_flags, .. } = self.first()?;
                let data_only = fsync_flags & flags::FSYNC_FDATASYNC != 0;
                match opcode {
                    opcode::FSYNC => Operation::Fsync { handle, data_only },
                    _ => Operation::FsyncDir { handle, data_only },
                }
            }
            opcode::SYNCFS => {
                self.first::<SyncfsIn>()?;
                Operation::SyncFs
            }
            opcode::GETLK => Operation::GetLock(self.lock()?),
            opcode::SETLK => Operation::SetLock(self.lock()?),
            opcode::SETLKW => Operation::SetLockWait(self.lock()?),
            opcode::BMAP => {
                let BmapIn { block, blocksize: block_bytes, .. } = self.first()?;
                Operation::Bmap { block, block_bytes }
            }
            opcode::IOCTL => {
                let IoctlIn { fh: handle, flags, cmd: command, arg: argument, in_size, out_size } =
                    self.first()?;
                let (data, answer_bytes_max) = (self.data(in_size)?, out_size);
                Operation::Ioctl(Ioctl { handle, flags, command, argument, data, answer_bytes_max })
            }
            opcode::POLL => {
                let PollIn { fh: handle, kh: kernel_handle, flags, events } = self.first()?;
                let notify = flags & flags::POLL_SCHEDULE_NOTIFY != 0;
                Operation::Poll(Poll { handle, kernel_handle, notify, events })
            }
            opcode::NOTIFY_REPLY => {
                let NotifyRetrieveIn { offset, size, .. } = self.first()?;
                Operation::NotifyReply { offset, data: self.data(size)? }
            }
            opcode::SETUPMAPPING => Operation::SetupMapping(self.setup_mapping()?),
            opcode::REMOVEMAPPING => {
                let count = self.first::<RemovemappingIn>()?.count;
                Operation::RemoveMapping(self.records(count)?)
            }
            unknown => {
                self.rest = &[];
                Operation::Unknown(unknown)
            }
        })
    }
}

/// `value` if the bit says that it counts.
fn valid<T>(flags: u32, bit: u32, value: T) -> Option<T> {
    (flags & bit != 0).then_some(value)
}

fn create(argument: CreateIn, name: &[u8]) -> Create<'_> {
    let CreateIn { flags, mode, umask, open_flags } = argument;
    Create { name, flags, mode, umask, kill_suid_sgid: open_flags & flags::OPEN_KILL_SUIDGID != 0 }
}
