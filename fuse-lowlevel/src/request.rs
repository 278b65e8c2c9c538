//! A request of the kernel: the header, and its operation, every length checked.
//!
//! `parse_whole` takes what one read of the device gave; `parse` the three areas of FUSE over io_uring. Neither allocates nor
//! panics, whatever the bytes; what they refuse names the request to answer, so that no client waits for ever.

use crate::arguments::Arguments;
use crate::operation::Operation;
use crate::wire::input::InHeader;
use crate::wire::opcode;
use thiserror::Error;
use zerocopy::FromBytes;

/// Extensions are counted in units of this.
const EXTENSION_UNIT_BYTES: usize = 8;
/// What the kernel adds to the `unique` of an INTERRUPT (`FUSE_INT_REQ_BIT`).
pub const UNIQUE_INTERRUPT: u64 = 1;

/// One request. The operation borrows from the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request<'r> {
    /// Names it in the reply.
    pub unique: u64,
    /// The object meant; 0 where none is.
    pub node: u64,
    /// Of the caller; meaningless where the kernel itself asks (read-ahead, RELEASE).
    pub uid: u32,
    /// Of the caller.
    pub gid: u32,
    /// Of the caller, 0 from another pid namespace.
    pub pid: u32,
    /// What is asked, as a number: see `wire::opcode`.
    pub opcode: u32,
    /// What is asked.
    pub operation: Operation<'r>,
    /// Security context and supplementary groups of a new file, undecoded; empty unless SECURITY_CTX or CREATE_SUPP_GROUP was agreed.
    pub extensions: &'r [u8],
}

/// What is wrong with the bytes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Defect {
    /// Not even a header.
    #[error("a header of {0} bytes")]
    Header(usize),
    /// The header's length is not that of what was read.
    #[error("the header says {said} bytes, there are {read}")]
    Length {
        /// By the header.
        said: u32,
        /// Really there.
        read: usize,
    },
    /// The extensions are longer than what there is.
    #[error("the extensions are longer than the request")]
    Extensions,
    /// The fixed argument is cut off.
    #[error("an argument of {0} bytes is cut off")]
    Argument(usize),
    /// A name is missing, without end, or not one.
    #[error("a name is empty, without end or holds a slash")]
    Name,
    /// Data or records are not as long as the argument says.
    #[error("data or records are not as long as the argument says")]
    Data,
    /// More than the operation has.
    #[error("{0} bytes behind the last argument")]
    Trailing(usize),
    /// A time with 10⁹ nanoseconds or more.
    #[error("{0} nanoseconds are more than a second")]
    Time(u32),
}

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("FUSE request {unique:?} of opcode {opcode:?} refused: {defect}")]
pub struct Malformed {
    /// That of the header, if there was one.
    pub unique: Option<u64>,
    /// That of the header, if there was one.
    pub opcode: Option<u32>,
    /// Why.
    pub defect: Defect,
}

impl Malformed {
    /// The request to answer, and with which errno; nothing if nobody waits.
    pub fn answer(&self) -> Option<(u64, i32)> {
        let mute = [opcode::FORGET, opcode::BATCH_FORGET, opcode::INTERRUPT, opcode::NOTIFY_REPLY];
        let waits = self.opcode.is_some_and(|opcode| !mute.contains(&opcode));
        self.unique.filter(|_| waits).map(|unique| (unique, libc::EINVAL))
    }
}

impl<'r> Request<'r> {
    /// What one read of the device gave: header, argument and payload in a row.
    pub fn parse_whole(bytes: &'r [u8]) -> Result<Request<'r>, Malformed> {
        let (header, rest) = read_header(bytes)?;
        if header.len as usize != bytes.len() {
            let defect = Defect::Length { said: header.len, read: bytes.len() };
            return Err(refused(&header, defect));
        }
        build(header, rest, Arguments::joined)
    }

    /// The areas of FUSE over io_uring: `header` is `in_out`, `argument` is `op_in`, both zero padded; `payload` is cut to the
    /// entry's `payload_sz`. The header's own length is not looked at: the kernel does not set it on every path here.
    pub fn parse(header: &[u8], argument: &'r [u8], payload: &'r [u8]) -> Result<Request<'r>, Malformed> {
        let (header, _padding) = read_header(header)?;
        build(header, payload, |payload| Arguments::apart(argument, payload))
    }

    /// Of the operation, in lower case as in the kernel's header; `unknown` of one not known: for logs and metrics.
    pub fn name(&self) -> &'static str {
        opcode::name(self.opcode).unwrap_or("unknown")
    }
}

fn read_header(bytes: &[u8]) -> Result<(InHeader, &[u8]), Malformed> {
    InHeader::read_from_prefix(bytes).map_err(|_| Malformed {
        unique: None,
        opcode: None,
        defect: Defect::Header(bytes.len()),
    })
}

fn refused(header: &InHeader, defect: Defect) -> Malformed {
    Malformed { unique: Some(header.unique), opcode: Some(header.opcode), defect }
}

/// `rest` is what ends with the extensions; `arguments` makes of it, without them, what the operation is read from.
fn build<'r>(
    header: InHeader,
    rest: &'r [u8],
    arguments: impl FnOnce(&'r [u8]) -> Arguments<'r>,
) -> Result<Request<'r>, Malformed> {
    let extensions_bytes = usize::from(header.total_extlen) * EXTENSION_UNIT_BYTES;
    let end = rest.len().checked_sub(extensions_bytes).ok_or(refused(&header, Defect::Extensions))?;
    let (rest, extensions) = rest.split_at(end);
    let operation = arguments(rest).operation(header.opcode).map_err(|defect| refused(&header, defect))?;
    let InHeader { opcode, unique, nodeid: node, uid, gid, pid, .. } = header;
    Ok(Request { unique, node, uid, gid, pid, opcode, operation, extensions })
}
