//! A file system of one file, `hello`, served by one blocking thread: `hello DIR`, then `cat DIR/hello`, then `umount DIR`.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use fuse_lowlevel::device::{Device, Received};
use fuse_lowlevel::mount::{Options, clean_stale, mount};
use fuse_lowlevel::wire::ROOT_ID;
use fuse_lowlevel::{
    Answer, Attributes, DirectoryEntry, DirectoryPage, Entry, Kind, Operation, Reply, Request, Wants,
    negotiate,
};

const TEXT: &[u8] = b"Hello, kernel.\n";
const HELLO_ID: u64 = 2;
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: hello DIR")?);
    let subtype = "hello".to_string();
    clean_stale(&directory, &subtype)?;
    let source = "hello".to_string();
    let options = Options { read_only: true, allow_other: false, default_permissions: true, source, subtype };
    let (device, _mounted) = mount(&directory, &options)?;
    serve(&device)
}

fn serve(device: &Device) -> Result<(), Box<dyn Error>> {
    let mut buffer = vec![0; (1 << 20) + 4096];
    let mut page = vec![0; 1 << 16];
    while let Received::Request(length) = device.receive(&mut buffer)? {
        let (unique, reply) = match Request::parse_whole(&buffer[..length]) {
            Ok(request) if request.operation.wants_reply() => (request.unique, answer(&request, &mut page)),
            Ok(_) => continue,
            Err(malformed) => match malformed.answer() {
                Some((unique, errno)) => (unique, Reply::Error(errno)),
                None => continue,
            },
        };
        let encoded = reply.encode(unique);
        device.send(encoded.head(), &[encoded.body()])?;
    }
    Ok(())
}

fn answer<'a>(request: &Request, page: &'a mut [u8]) -> Reply<'a> {
    match request.operation {
        // No flags: READDIRPLUS, for one, is then not asked.
        Operation::Init(offer) => match negotiate(&offer, &Wants { flags: 0, ..Wants::default() }) {
            Ok(Answer::Agreed(agreed)) => Reply::Init(agreed.reply()),
            Ok(Answer::Version(version)) => Reply::Init(version),
            Err(refusal) => Reply::Error(refusal.errno()),
        },
        Operation::Lookup { name: b"hello" } if request.node == ROOT_ID => Reply::Entry(Entry {
            node: HELLO_ID,
            generation: 0,
            entry_timeout: TIMEOUT,
            attribute_timeout: TIMEOUT,
            attributes: attributes(HELLO_ID),
        }),
        Operation::Lookup { .. } => Reply::NoEntry(TIMEOUT),
        Operation::GetAttr { .. } => Reply::Attributes(attributes(request.node), TIMEOUT),
        Operation::Open { .. } | Operation::OpenDir { .. } => Reply::Opened(Default::default()),
        Operation::Read(read) => {
            let begin = TEXT.len().min(read.offset as usize);
            let end = TEXT.len().min(begin + read.size_bytes as usize);
            Reply::Data(&TEXT[begin..end])
        }
        Operation::ReadDir(read) => {
            let room = page.len().min(read.size_bytes as usize);
            let mut page = DirectoryPage::new(&mut page[..room]);
            let hello = DirectoryEntry { inode: HELLO_ID, next_offset: 1, kind: Kind::File, name: b"hello" };
            if read.offset == 0 && !page.push(&hello) {
                return Reply::Error(libc::EINVAL);
            }
            Reply::Data(page.finish())
        }
        Operation::Release(_) | Operation::ReleaseDir(_) | Operation::Destroy => Reply::Empty,
        _ => Reply::Error(libc::ENOSYS),
    }
}

fn attributes(node: u64) -> Attributes {
    match node {
        ROOT_ID => Attributes::new(node, Kind::Directory, 0o555, 0),
        _ => Attributes::new(node, Kind::File, 0o444, TEXT.len() as u64),
    }
}
