//! The grammar of `bench`: what to load, how hard, for how long, and where the figures go.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::digest::Digest;
use crate::config::size::parse_size_bytes;
use crate::output::OutputFormat;

/// `basalt bench`.
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct BenchArgs {
    /// What to load.
    #[command(subcommand)]
    pub what: BenchWhat,
}

/// What can be loaded.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchWhat {
    /// Read and write a file with O_DIRECT
    Disk(BenchDisk),
    /// Send bytes over TCP and await them back
    Net(BenchNet),
    /// Send messages between columns
    Mesh(BenchMesh),
    /// Store or fetch blobs over HTTP, from us or any server that speaks it
    Blob(BenchBlob),
    /// Fetch objects through a caching proxy, one of our own or any other
    Slice(BenchSlice),
}

/// What every load has.
#[derive(Clone, Debug, Args)]
pub struct BenchRun {
    /// How long to measure (each step, if there are several), after a tenth of it to warm up
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// CPUs to load from, such as 1 or 0-3; default: those we may run on
    #[arg(long, value_name = "CPULIST")]
    pub cpuset: Option<String>,
    /// Also write a page with the figures and their distribution
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub output: OutputFormat,
}

/// `basalt bench disk`.
#[derive(Clone, Debug, Args)]
pub struct BenchDisk {
    /// Measure the device of each data directory for `serve`, which then keeps just enough in flight
    #[arg(long, conflicts_with_all = ["file", "pattern", "block_size", "depth", "report"])]
    pub save: bool,
    /// Directory of the disk to load; the file is removed afterwards [default: ., with --save each data directory]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Read this file, which stays, instead of one of our own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dir", "file_size"])]
    pub file: Option<PathBuf>,
    /// Pattern of access
    #[arg(long, value_enum, default_value_t)]
    pub pattern: DiskPattern,
    /// Bytes per operation, a multiple of 4 KiB
    #[arg(long, value_name = "SIZE", default_value = "4KiB", value_parser = parse_size_bytes)]
    pub block_size: u64,
    /// Size of the file
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = parse_size_bytes)]
    pub file_size: u64,
    /// Operations in flight
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub depth: u32,
    /// How long, and where the figures go.
    #[command(flatten)]
    pub run: BenchRun,
}

/// Pattern of access to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DiskPattern {
    /// Reads at random offsets
    #[default]
    Randread,
    /// Writes at random offsets
    Randwrite,
    /// Reads in sequence
    Read,
    /// Writes in sequence
    Write,
    /// Writes in sequence, each made durable
    Sync,
}

/// `basalt bench net`.
#[derive(Clone, Debug, Args)]
pub struct BenchNet {
    /// An echo server; default: one of our own on loopback
    #[arg(long, value_name = "ADDR")]
    pub target: Option<String>,
    /// Connections to hold
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub connections: u32,
    /// Bytes per message
    #[arg(long, value_name = "SIZE", default_value = "64", value_parser = parse_size_bytes)]
    pub size: u64,
    /// How long, and where the figures go.
    #[command(flatten)]
    pub run: BenchRun,
}

/// `basalt bench mesh`.
#[derive(Clone, Debug, Args)]
pub struct BenchMesh {
    /// Let the receiver sleep between messages, so that each one wakes it
    #[arg(long)]
    pub asleep: bool,
    /// How long, and where the figures go.
    #[command(flatten)]
    pub run: BenchRun,
}

/// `basalt bench blob`.
#[derive(Clone, Debug, Args)]
pub struct BenchBlob {
    /// The server to load; default: 127.0.0.1:9000, for the suite prefetch two nodes of our own
    #[arg(long, value_name = "ADDR")]
    pub target: Option<String>,
    /// Fetch or store
    #[arg(long, value_enum, default_value_t)]
    pub method: BlobMethod,
    /// Several loads of a kind instead, with every byte received compared with what was put
    #[arg(long, value_enum, conflicts_with_all = ["method", "size", "digest", "rate"])]
    pub suite: Option<BlobSuite>,
    /// Bytes per blob in a suite; default: what the suite is about
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = parse_size_bytes, requires = "suite")]
    pub sizes: Vec<u64>,
    /// Where a suite reads hits and misses, if the server is one of ours; default: 127.0.0.1:2381
    #[arg(long, value_name = "ADDR", requires = "suite")]
    pub ops: Option<String>,
    /// Where nodes of our own keep their data (1 GiB, unless told otherwise), which is removed afterwards; default: .
    #[arg(long, value_name = "DIR", requires = "suite", conflicts_with = "target")]
    pub dir: Option<PathBuf>,
    /// Bytes per blob; default: 4KiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bytes)]
    pub size: Option<u64>,
    /// Different blobs to fetch, stored beforehand and removed afterwards; default: 16, or what the suite is about
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub blobs: Option<u32>,
    /// Fetch this blob, which the server has, instead
    #[arg(long, value_parser = Digest::parse, conflicts_with_all = ["size", "blobs"])]
    pub digest: Option<Digest>,
    /// Connections to hold; default: 64, or what the suite is about
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub connections: Option<u32>,
    /// Requests per second over all connections, sent on schedule; default: as fast as answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// How long, and where the figures go.
    #[command(flatten)]
    pub run: BenchRun,
}

/// Loads of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BlobSuite {
    /// Whole blobs of 1 to 256 MiB, one after the other
    Sequential,
    /// Ranges of 4 to 512 KiB anywhere in blobs of 64 MiB
    Random,
    /// Whole blobs of 1 to 100 KiB
    Small,
    /// 1,000 files, each once, then all of them again and again
    Fanout,
    /// First reads, from disk, against later ones, from RAM
    Tiers,
    /// First reads in order, by ranges of 1 MiB: of a --target, or of two nodes of our own in turn, without and with prefetch
    Prefetch,
    /// Blobs by popularity (Zipf, exponent 1), with the hit ratio of RAM
    Zipf,
}

/// What is asked of the blob server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BlobMethod {
    /// Fetch blobs
    #[default]
    Get,
    /// Store new blobs, durably
    Put,
}

/// `basalt bench slice`.
#[derive(Clone, Debug, Args)]
pub struct BenchSlice {
    /// The proxy to load; default: a node of our own before an origin of our own, both on loopback
    #[arg(long, value_name = "ADDR", requires = "paths")]
    pub target: Option<String>,
    /// What to fetch through the target; repeatable
    #[arg(long = "path", value_name = "PATH", value_parser = parse_path, requires = "target")]
    pub paths: Vec<String>,
    /// Bytes of the objects of an origin of our own; default: 1MiB
    #[arg(long, value_name = "SIZE,...", value_delimiter = ',', value_parser = parse_size_bytes, conflicts_with = "target")]
    pub sizes: Vec<u64>,
    /// Objects of each size
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub objects: u32,
    /// Slices of a node of our own; default: auto
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bytes, conflicts_with = "target")]
    pub slice_size: Option<u64>,
    /// Where a node of our own keeps its data, which is removed afterwards; default: .
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    pub dir: Option<PathBuf>,
    /// Fetch ranges of this size, anywhere, instead of whole objects
    #[arg(long, value_name = "SIZE", value_parser = parse_size_bytes)]
    pub range: Option<u64>,
    /// Fetch what the cache does not have: every request adds another query, of which the origin should take no notice
    #[arg(long)]
    pub cold: bool,
    /// Connections to hold
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub connections: u32,
    /// Requests per second over all connections, sent on schedule; default: as fast as answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// How long, and where the figures go.
    #[command(flatten)]
    pub run: BenchRun,
}

fn parse_path(text: &str) -> Result<String, String> {
    match text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("a path begins with / and has no blanks".to_owned()),
    }
}
