//! The daemon's configuration: what can be set, from where it came, and the plain [`Settings`] it amounts to.
//!
//! Layers, weakest first: built-in default < `--config` file < `BASALT_*` environment < flag. A key has one
//! name: `memory` in the file is `--memory` as a flag and `BASALT_MEMORY` in the environment; `keys.rs`
//! lists them all, once. Every layer is checked, also where a stronger one covers it, and all faults are
//! reported together. A wrong flag is a usage error, a wrong file or variable a configuration error.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::machine::MemoryCeiling;

pub mod aliases;
pub mod file;
pub mod flags;
#[cfg(test)]
mod fuzz;
pub mod keys;
pub mod layers;
pub mod nearest;
pub mod show;
pub mod size;
pub mod slice;
#[cfg(test)]
mod sources;

use flags::ServeFlags;
use layers::Layers;
use size::{Amount, Bytes};
use slice::Slice;

/// What `serve` runs with. Nothing below the node reads flags, files or the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// CPUs to run on, in kernel cpulist syntax; `None` is those this process may run on.
    pub cpuset: Option<String>,
    /// Where the node keeps its data, one directory a disk; they need not exist yet.
    pub data_dirs: Vec<DataDir>,
    /// The memory budget as it was asked for.
    pub memory: Amount,
    /// The memory budget as it was understood on this machine.
    pub memory_bytes: u64,
    /// The most to store, of each file system when a percentage, of all together otherwise.
    pub disk_quota: Amount,
    /// What stays free of each file system, at least [`FLOOR_BYTES_MIN`].
    pub disk_free_min: Amount,
    /// How long a blob is kept that was put without a time of its own; `None`: until it is deleted.
    pub object_ttl_ms: Option<u64>,
    /// Where the blob HTTP interface listens.
    pub blob_listen: SocketAddr,
    /// The caching proxy.
    pub slice: Slice,
    /// Where metrics and health listen.
    pub ops_listen: SocketAddr,
    /// Whether sequential readers of large blobs are read ahead of.
    pub prefetch: bool,
    /// The most that looking for damage may read in a second; `None`: nothing looks for it.
    pub scrub_bytes_per_s: Option<NonZeroU64>,
    /// How long it rests when it has read everything.
    pub scrub_rest_ms: u64,
    /// What is verified beside every read from disk.
    pub verify: Verify,
    /// Certificate authorities for origins beside the system's, as a PEM file.
    pub origin_ca: Option<PathBuf>,
    /// Where blobs are shown as files.
    pub mounts: Mounts,
    /// The engines to run, each once.
    pub engines: Vec<Engine>,
    /// Whether a listener may be reachable from outside without TLS.
    pub insecure: bool,
    /// With what listeners speak TLS; `None`: they do not.
    pub tls: Tls,
    /// The tokens that listeners ask for, as a file; `None`: they ask for none.
    pub token_file: Option<PathBuf>,
    /// The shape of log lines.
    pub log_format: LogFormat,
    /// Log directives such as `info` or `info,runtime=debug`.
    pub log_level: String,
}

/// Deletions and checkpoints need space when all that may be stored is stored.
pub const FLOOR_BYTES_MIN: u64 = 16 << 20;

/// A directory for data and its share of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    /// Where.
    pub path: PathBuf,
    /// Its share of new data, relative to the others.
    pub weight: u32,
}

impl Settings {
    /// What the caching proxy runs with; `None`: it does not run.
    ///
    /// # Errors
    /// What is wrong with it, by key.
    pub fn slice_config(&self) -> Result<Option<slicecache::config::Config>, (&'static str, String)> {
        let runs = self.engines.contains(&Engine::Slice);
        if runs { self.slice.config() } else { Ok(None) }
    }

    /// Of a directory, on the file system where it is or will be: the most to store, and what stays free. In bytes.
    pub fn disk_bytes(&self, dir: &DataDir) -> Result<(u64, u64), Error> {
        let total_bytes = file_system_bytes(&dir.path).map_err(|error| {
            let dir = dir.path.display();
            Error::runtime(format!("cannot size the file system of {dir}")).why(error)
        })?;
        let floor_bytes = self.disk_free_min_of(total_bytes);
        Ok((self.disk_quota_of(dir, total_bytes), floor_bytes))
    }

    /// The most to store, on a file system of `total_bytes`.
    pub fn disk_quota_of(&self, dir: &DataDir, total_bytes: u64) -> u64 {
        let asked = self.disk_quota.of(total_bytes);
        let quota = match self.disk_quota {
            Amount::Percent(_) => asked,
            Amount::Bytes(_) => {
                let weights: u64 = self.data_dirs.iter().map(|d| u64::from(d.weight)).sum();
                (u128::from(asked) * u128::from(dir.weight) / u128::from(weights.max(1))) as u64
            }
        };
        quota.min(total_bytes.saturating_sub(self.disk_free_min_of(total_bytes)))
    }

    /// What stays free of a file system of `total_bytes`.
    pub fn disk_free_min_of(&self, total_bytes: u64) -> u64 {
        self.disk_free_min.of(total_bytes).max(FLOOR_BYTES_MIN)
    }
}

/// What is verified beside every read from disk, which always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verify {
    /// Everything stored, once, before the node says that it is ready.
    pub at_start: bool,
    /// Nothing is sent from memory that another process could have changed since: no pages of the page cache.
    pub is_strict: bool,
}

/// An engine that is built into this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Blobs over HTTP.
    Blob,
    /// The caching proxy.
    Slice,
}

/// Engines the design has and this build has not.
const ENGINES_NOT_BUILT: [&str; 2] = ["meta", "tsdb"];

impl Engine {
    /// Reads an engine's name; the error tells an engine not built yet from one that never will be.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "blob" => Ok(Self::Blob),
            "slice" => Ok(Self::Slice),
            name if ENGINES_NOT_BUILT.contains(&name) => {
                Err(format!("engine `{name}` is not built yet; this build has: blob, slice"))
            }
            name => Err(format!(
                "no engine is called `{name}`; this build has: blob, slice (not built yet: {})",
                ENGINES_NOT_BUILT.join(", ")
            )),
        }
    }
}

/// Where blobs are shown as files, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// A mount with handles: the kernel may be given files.
    pub handles: Option<PathBuf>,
    /// A mount of what never changes: no handles, so that opening a file in the page cache costs no request.
    pub immutable: Option<PathBuf>,
    /// How requests come.
    pub rung: Rung,
    /// Users other than the daemon's may look in.
    pub allow_other: bool,
}

/// How the kernel's requests come, the fastest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rung {
    /// The fastest that works.
    #[default]
    Auto,
    /// The kernel must be able to read large files itself; otherwise as `Auto`.
    Passthrough,
    /// All over FUSE's own rings.
    Uring,
    /// All over cloned devices.
    Clone,
    /// All over one reading thread.
    Thread,
}

impl Rung {
    /// Reads a rung's name.
    ///
    /// # Errors
    ///
    /// The text names none.
    pub fn parse(text: &str) -> Result<Rung, String> {
        match text {
            "auto" => Ok(Rung::Auto),
            "passthrough" => Ok(Rung::Passthrough),
            "uring" => Ok(Rung::Uring),
            "clone" => Ok(Rung::Clone),
            "thread" => Ok(Rung::Thread),
            _ => Err(format!("`{text}` is none of auto, passthrough, uring, clone, thread")),
        }
    }
}

/// With what listeners speak TLS; without certificates they do not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate chains in PEM, the server's own first.
    pub certs: Vec<PathBuf>,
    /// Their keys, in the same order.
    pub keys: Vec<PathBuf>,
    /// Who signs certificates of clients, which then must have one.
    pub client_ca: Option<PathBuf>,
}

/// The shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, logfmt elsewhere.
    Auto,
    /// For people: aligned, coloured on a terminal.
    Text,
    /// `key=value` pairs, for journald and grep.
    Logfmt,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Reads a format's name.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "logfmt" => Ok(Self::Logfmt),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{name}` is none of auto, text, logfmt, json")),
        }
    }
}

/// Settings and where each of them came from.
#[derive(Debug)]
pub struct Config {
    /// What the daemon runs with.
    pub settings: Settings,
    /// The winning value and origin of each key.
    pub layers: Layers,
    /// What was accepted and has no effect, for the log.
    pub warnings: Vec<String>,
}

/// Reads the file, the environment and the flags of this process.
pub fn load(flags: &ServeFlags) -> Result<Config, Error> {
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let path = flags.config.clone().or_else(|| layers::config_path(&env));
    let text = path.as_deref().map(file::read).transpose()?;
    let ceiling = MemoryCeiling::read()
        .map_err(|why| Error::runtime("cannot tell how much memory there is").why(why))?;
    let file = path.as_deref().zip(text.as_deref());
    resolve(file, &env, flags, ceiling)
}

/// Layers the three sources over the defaults and resolves what depends on the machine.
pub fn resolve(
    file: Option<(&Path, &str)>,
    env: &[(String, String)],
    flags: &ServeFlags,
    ceiling: MemoryCeiling,
) -> Result<Config, Error> {
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let (mut settings, layers) = layers::stack(file, env, flags, &mut faults, &mut warnings);
    match resolve_memory_bytes(settings.memory, ceiling) {
        Ok(bytes) => settings.memory_bytes = bytes,
        Err(why) => faults.push(layers.origin("memory").fault("memory", &why)),
    }
    // A listener that could not be read stands at its default: judging it would mislead.
    if faults.is_empty() {
        faults.extend(check_tls(&settings.tls, &layers));
        faults.extend(check_listeners(&settings, &layers));
        faults.extend(check_engines(&settings, &layers));
        warnings.extend(warn_of_open(&settings));
        warnings.extend(warn_of_readable_tokens(&settings));
    }
    match Error::all(faults) {
        Some(error) => Err(error),
        None => Ok(Config { settings, layers, warnings }),
    }
}

/// The memory budget in bytes: a share of what may be used here, or what was asked for if it fits.
pub fn resolve_memory_bytes(asked: Amount, ceiling: MemoryCeiling) -> Result<u64, String> {
    let bytes = asked.of(ceiling.bytes());
    if bytes <= ceiling.bytes() {
        return Ok(bytes);
    }
    let (bytes, limit) = (Bytes(bytes), Bytes(ceiling.bytes()));
    let limiter = if ceiling.bytes() < ceiling.ram_bytes { "the cgroup's memory limit" } else { "RAM" };
    Err(format!("{bytes} is more than {limiter} of {limit}"))
}

fn is_local(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

fn check_tls(tls: &Tls, layers: &Layers) -> Vec<Error> {
    let fault = |key: &str, why: &str| vec![layers.origin(key).fault(key, why)];
    let (certs, keys) = (tls.certs.len(), tls.keys.len());
    if certs != keys {
        let why = format!("{certs} of --tls-cert and {keys} of --tls-key: each certificate has a key");
        return fault(if certs < keys { "tls-key" } else { "tls-cert" }, &why);
    }
    if tls.client_ca.is_some() && certs == 0 {
        return fault("tls-client-ca", "certificates of clients need TLS: there is no --tls-cert");
    }
    Vec::new()
}

/// What is allowed and should be known.
fn warn_of_open(settings: &Settings) -> Option<String> {
    let asks = settings.tls.client_ca.is_some() || settings.token_file.is_some();
    let is_open = !is_local(settings.blob_listen) && !asks;
    is_open.then(|| {
        let addr = settings.blob_listen;
        format!(
            "whoever reaches {addr} can read, write and delete: there is no --token-file or --tls-client-ca"
        )
    })
}

/// Where tokens are asked for that whoever is on the way can read. `--insecure` allowed that.
fn warn_of_readable_tokens(settings: &Settings) -> Option<String> {
    if settings.token_file.is_none() || !settings.tls.certs.is_empty() {
        return None;
    }
    let open = listeners(settings).into_iter().filter(|(_, addr)| !is_local(*addr));
    let addrs: Vec<String> = open.map(|(_, addr)| addr.to_string()).collect();
    (!addrs.is_empty())
        .then(|| format!("tokens are sent in clear text to {}: there is no --tls-cert", addrs.join(" and ")))
}

fn check_engines(settings: &Settings, layers: &Layers) -> Vec<Error> {
    let fault = |key: &'static str, why: &str| vec![layers.origin(key).fault(key, why)];
    if !settings.engines.contains(&Engine::Blob) {
        return fault("engines", "blob is always run: the others are beside it");
    }
    match settings.slice_config() {
        Ok(_) => Vec::new(),
        Err((key, why)) => fault(key, &why),
    }
}

/// The keys of those that there will be, and their addresses.
fn listeners(settings: &Settings) -> Vec<(&'static str, SocketAddr)> {
    let mut listeners = vec![("blob-listen", settings.blob_listen)];
    if settings.slice_config().is_ok_and(|config| config.is_some()) {
        listeners.push(("slice-listen", settings.slice.listen));
    }
    listeners.push(("ops-listen", settings.ops_listen));
    listeners
}

fn check_listeners(settings: &Settings, layers: &Layers) -> Vec<Error> {
    let listeners = listeners(settings);
    let mut faults = Vec::new();
    for &(key, addr) in &listeners {
        if !is_local(addr) && !settings.insecure && settings.tls.certs.is_empty() {
            let why = format!(
                "{addr} is not a loopback address, and there is no --tls-cert: \
                 whoever is on the way could read and change everything, tokens too"
            );
            faults.push(layers.origin(key).fault(key, &why).fix(
                "give --tls-cert and --tls-key, listen on 127.0.0.1 or [::1], or accept that with --insecure",
            ));
        }
    }
    for (at, (key, addr)) in listeners.iter().enumerate() {
        let taken = listeners[..at].iter().find(|(_, other)| other == addr && addr.port() != 0);
        if let Some((other, _)) = taken {
            let why = format!("{addr} is taken by {other}");
            faults.push(layers.origin(key).fault(key, &why));
        }
    }
    faults
}

/// The size of the file system under `path`, or under the directory in which it will be made.
pub fn file_system_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(crate::machine::nearest_existing(path))?;
    Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_quarter_of_the_smaller_limit_is_the_default_budget() {
        let ceiling = MemoryCeiling { ram_bytes: 16 * GIB, cgroup_bytes: Some(4 * GIB) };
        assert_eq!(resolve_memory_bytes(Amount::Percent(25), ceiling), Ok(GIB));
        let ceiling = MemoryCeiling { ram_bytes: 16 * GIB, cgroup_bytes: None };
        assert_eq!(resolve_memory_bytes(Amount::Percent(25), ceiling), Ok(4 * GIB));
        assert_eq!(resolve_memory_bytes(Amount::Bytes(16 * GIB), ceiling), Ok(16 * GIB));
    }

    #[test]
    fn more_memory_than_there_is_names_the_limit() {
        let ceiling = MemoryCeiling { ram_bytes: 16 * GIB, cgroup_bytes: Some(4 * GIB) };
        let why = resolve_memory_bytes(Amount::Bytes(8 * GIB), ceiling).expect_err("too much");
        assert_eq!(why, "8 GiB is more than the cgroup's memory limit of 4 GiB");
        let ceiling = MemoryCeiling { ram_bytes: 4 * GIB, cgroup_bytes: None };
        let why = resolve_memory_bytes(Amount::Bytes(8 * GIB), ceiling).expect_err("too much");
        assert_eq!(why, "8 GiB is more than RAM of 4 GiB");
    }

    #[test]
    fn an_engine_not_built_differs_from_one_unknown() {
        assert_eq!(Engine::parse("blob"), Ok(Engine::Blob));
        assert!(Engine::parse("tsdb").expect_err("not built").contains("not built yet"));
        assert!(Engine::parse("blub").expect_err("unknown").starts_with("no engine is called `blub`"));
    }
}
