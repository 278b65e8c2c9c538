//! Reads files for `benches/run mount`, from whatever file system they are in: native, our mount, a peer's. Pin it with taskset;
//! prints one line of JSON.
//!
//! `files --do read --file F --number N [--block 1048576] [--passes N | --seconds S] [--evict] [--compare]`: one file from its
//! start to its end, again and again; `--evict` drops its pages before each pass, outside the time that is shown.
//! `files --do map --file F --number N [--passes N | --seconds S]`: as many touches of random pages as the file has, each pass
//! by a mapping of its own; a touch is the first word of a page.
//! `files --do open|stat --dir D --listing L [--passes N | --seconds S]`: every blob of a listing of `blobs`, by its name in D:
//! open, read of 4 KiB and close, or stat.
//! Bytes are those of `benches::blobs::content`, `[--seed 1]`. What is read is compared, except by `read` without `--compare`;
//! a wrong byte ends the program with 1.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use benches::args::Args;
use benches::blobs::content::Content;
use benches::blobs::listing;
use benches::cpu::own_seconds;
use benches::mem::FileMap;
use benches::rng::Rng;
use benches::{Result, check};

const PAGE_BYTES: usize = 4096;
const WORD_BYTES: usize = 8;

/// When to stop, and what was done until then.
struct Passes {
    most: u64,
    until: Duration,
    ops: u64,
    bytes: u64,
    taken: Duration,
    cpu_seconds: f64,
}

fn main() -> Result<()> {
    let mut args = Args::parse(std::env::args().skip(1), &["evict", "compare"])?;
    let content = Content::new(args.get("seed", 1)?);
    let mut passes = Passes::from(&mut args)?;
    match args.must::<String>("do")?.as_str() {
        "read" => read(args, &content, &mut passes)?,
        "map" => map(args, &content, &mut passes)?,
        "open" => open(args, &content, &mut passes)?,
        "stat" => stat(args, &mut passes)?,
        other => return Err(format!("--do {other}: read, map, open or stat").into()),
    }
    println!("{}", passes.as_json());
    Ok(())
}

impl Passes {
    fn from(args: &mut Args) -> Result<Self> {
        let (most, seconds) = (args.get("passes", u64::MAX)?, args.get("seconds", f64::MAX)?);
        if (most, seconds) == (u64::MAX, f64::MAX) {
            return Err("--passes or --seconds says how long".into());
        }
        let until = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Ok(Self { most, until, ops: 0, bytes: 0, taken: Duration::ZERO, cpu_seconds: 0.0 })
    }

    /// Runs `prepare`, then `pass` against the clock, until it was enough; `pass` says operations and bytes. At least once.
    fn run(
        &mut self,
        mut prepare: impl FnMut() -> Result<()>,
        mut pass: impl FnMut() -> Result<(u64, u64)>,
    ) -> Result<()> {
        for _ in 0..self.most.max(1) {
            prepare()?;
            let (begin, cpu_begin) = (Instant::now(), own_seconds());
            let (ops, bytes) = pass()?;
            self.taken += begin.elapsed();
            self.cpu_seconds += own_seconds() - cpu_begin;
            self.ops += ops;
            self.bytes += bytes;
            if self.taken >= self.until {
                break;
            }
        }
        Ok(())
    }

    fn as_json(&self) -> String {
        let seconds = self.taken.as_secs_f64();
        format!(
            "{{\"ops\":{},\"bytes\":{},\"seconds\":{seconds:.6},\"ops_per_s\":{:.1},\"mb_per_s\":{:.1},\"cpu_seconds\":{:.6}}}",
            self.ops,
            self.bytes,
            self.ops as f64 / seconds,
            self.bytes as f64 / 1e6 / seconds,
            self.cpu_seconds,
        )
    }
}

fn opened(path: &str) -> Result<File> {
    File::open(path).map_err(|e| format!("{path}: {e}").into())
}

fn read(mut args: Args, content: &Content, passes: &mut Passes) -> Result<()> {
    let (path, number) = (args.must::<String>("file")?, args.must::<u64>("number")?);
    let mut block = vec![0; args.get("block", 1 << 20)?];
    let (evicts, compares) = (args.flag("evict"), args.flag("compare"));
    args.finish()?;
    let size = opened(&path)?.metadata()?.len();
    let prepare = || if evicts { evict(&opened(&path)?) } else { Ok(()) };
    let pass = || {
        let (mut file, mut at, mut reads) = (opened(&path)?, 0, 0);
        loop {
            let length = file.read(&mut block).map_err(|e| format!("{path} at {at}: {e}"))?;
            if length == 0 {
                break;
            }
            // The first words of every read are looked at in any case: a file of another content is no contender.
            let looked = if compares { length } else { length.min(WORD_BYTES) };
            content.check(number, at, &block[..looked])?;
            at += length as u64;
            reads += 1;
        }
        if at == size { Ok((reads, at)) } else { Err(format!("{path} ended at {at} of {size}").into()) }
    };
    passes.run(prepare, pass)
}

/// Drops the pages that the file system which `file` is in has of it.
fn evict(file: &File) -> Result<()> {
    // SAFETY: no memory is given to the kernel, and the descriptor is open for the call.
    let returned = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if returned == 0 { Ok(()) } else { Err(format!("posix_fadvise: error {returned}").into()) }
}

fn map(mut args: Args, content: &Content, passes: &mut Passes) -> Result<()> {
    let (path, number) = (args.must::<String>("file")?, args.must::<u64>("number")?);
    let mut rng = Rng::new(args.get("seed-touches", 7)?);
    args.finish()?;
    let file = opened(&path)?;
    let pages = file.metadata()?.len() / PAGE_BYTES as u64;
    let pass = || {
        let map = FileMap::new(&file)?;
        for _ in 0..pages {
            let at = rng.below(pages) as usize * PAGE_BYTES;
            content.check(number, at as u64, &map.bytes()[at..at + WORD_BYTES])?;
        }
        Ok((pages, pages * PAGE_BYTES as u64))
    };
    passes.run(|| Ok(()), pass)
}

/// Moves into `--dir`, so that all contenders have paths of one component; names and numbers of the listing.
fn named(mut args: Args) -> Result<Vec<(CString, u64)>> {
    let stored = listing::read(&args.must::<String>("listing")?)?;
    let directory = args.must::<String>("dir")?;
    args.finish()?;
    std::env::set_current_dir(&directory).map_err(|e| format!("{directory}: {e}"))?;
    let name = |digest: &str| CString::new(digest.trim_start_matches("sha256:"));
    stored.iter().map(|blob| Ok((name(&blob.digest)?, blob.number))).collect()
}

fn open(args: Args, content: &Content, passes: &mut Passes) -> Result<()> {
    let files = named(args)?;
    let mut page = [0; PAGE_BYTES];
    let pass = || {
        let mut bytes = 0;
        for (name, number) in &files {
            let length = read_once(name, &mut page)?;
            content.check(*number, 0, &page[..length])?;
            bytes += length as u64;
        }
        Ok((files.len() as u64, bytes))
    };
    passes.run(|| Ok(()), pass)
}

/// Three system calls and no more: std asks for the size of what it opens.
fn read_once(name: &CString, page: &mut [u8; PAGE_BYTES]) -> Result<usize> {
    // SAFETY: the name ends with a NUL, the buffer has the length given and lives for the calls, the descriptor is ours.
    let (fd, length, closed) = unsafe {
        let fd = libc::open(name.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        check("open", i64::from(fd)).map_err(|e| format!("{name:?}: {e}"))?;
        let length = libc::read(fd, page.as_mut_ptr().cast(), page.len());
        (fd, length, libc::close(fd))
    };
    check("close", i64::from(closed)).map_err(|e| format!("{fd}: {e}"))?;
    let length = check("read", length as i64).map_err(|e| format!("{name:?}: {e}"))?;
    if length as usize == page.len() {
        Ok(page.len())
    } else {
        Err(format!("{name:?}: {length} bytes").into())
    }
}

fn stat(args: Args, passes: &mut Passes) -> Result<()> {
    let files = named(args)?;
    let pass = || {
        for (name, _) in &files {
            // SAFETY: a zeroed stat is a valid one that the kernel fills; the name ends with a NUL.
            let (returned, size) = unsafe {
                let mut stat: libc::stat = std::mem::zeroed();
                (libc::stat(name.as_ptr(), &raw mut stat), stat.st_size)
            };
            check("stat", i64::from(returned)).map_err(|e| format!("{name:?}: {e}"))?;
            if size as usize != PAGE_BYTES {
                return Err(format!("{name:?} has {size} bytes").into());
            }
        }
        Ok((files.len() as u64, 0))
    };
    passes.run(|| Ok(()), pass)
}
