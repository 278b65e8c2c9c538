//! The daemon as a process: started, waited for, killed, started again in the same directory.

use std::fs::{self, File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, process};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::blobs::Client;
use crate::command::{self, Finished};
use crate::fuse;
use crate::http::{Conn, Fault, Request};

/// How long a start may take, recovery included.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long `/readyz` may take for one answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);

/// How long the daemon may take to end after TERM when nothing runs.
pub const EXIT_DEADLINE: Duration = Duration::from_secs(30);

/// The daemon's binary: `BASALT_BIN`, else what `cargo build --release -p basalt` makes.
pub fn binary() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/basalt");
    let path = env::var_os("BASALT_BIN").map_or_else(|| PathBuf::from(built), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: cargo build --release -p basalt, or set BASALT_BIN",
        path.display()
    );
    path
}

/// A fresh directory on a file system with O_DIRECT: below `BASALT_TEST_DIR`, else `/var/tmp`.
pub fn fresh_dir() -> TempDir {
    let parent = env::var_os("BASALT_TEST_DIR").unwrap_or_else(|| "/var/tmp".into());
    tempfile::Builder::new()
        .prefix("basalt-test-")
        .tempdir_in(&parent)
        .unwrap_or_else(|error| panic!("a directory in {}: {error}", parent.display()))
}

/// A loopback address nobody uses, outside the kernel's ephemeral range, so that no client of a
/// test running beside this one gets it before the daemon does.
pub fn free_addr() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 14_000 + (process::id() as u16 % 14).wrapping_mul(1000).wrapping_add(step) % 14_000;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// The CPUs that this process may run on.
pub fn cpus() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let list = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
    let number = |text: &str| text.trim().parse::<u32>().expect("a CPU");
    let ranges = list.expect("Cpus_allowed_list").split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        number(first)..=number(last)
    });
    ranges.collect()
}

/// A `--cpuset` of the first `count` of our CPUs, or of all if there are fewer.
pub fn cpuset(count: usize) -> String {
    let names: Vec<_> = cpus().iter().take(count).map(u32::to_string).collect();
    names.join(",")
}

/// What to start, and where. The directory is removed with the last clone.
#[derive(Clone, Debug)]
pub struct Setup {
    home: Arc<TempDir>,
    /// The data directory.
    pub data: PathBuf,
    /// Where the blob interface will listen.
    pub blob: SocketAddr,
    /// Where the caching proxy will listen, if it is told of an origin.
    pub slice: SocketAddr,
    /// Where `/metrics` and health will listen.
    pub ops: SocketAddr,
    cpuset: String,
    memory: String,
    wrapper: Vec<String>,
    extra: Vec<String>,
    /// What curl needs to reach it over TLS; empty: nothing, it speaks none.
    curl: Vec<String>,
}

impl Default for Setup {
    fn default() -> Self {
        Self::new()
    }
}

impl Setup {
    /// Two columns where there are two CPUs, an empty directory, free ports.
    pub fn new() -> Self {
        let home = fresh_dir();
        Self {
            data: home.path().join("data"),
            home: Arc::new(home),
            blob: free_addr(),
            slice: free_addr(),
            ops: free_addr(),
            cpuset: cpuset(2),
            memory: "512MiB".to_owned(),
            wrapper: Vec::new(),
            extra: Vec::new(),
            curl: Vec::new(),
        }
    }

    /// Another `--cpuset`.
    pub fn cpuset(mut self, list: impl Into<String>) -> Self {
        self.cpuset = list.into();
        self
    }

    /// Another `--memory`.
    pub fn memory(mut self, amount: &str) -> Self {
        amount.clone_into(&mut self.memory);
        self
    }

    /// Another data directory.
    pub fn data(mut self, path: impl Into<PathBuf>) -> Self {
        self.data = path.into();
        self
    }

    /// A further argument of `serve`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.extra.push(arg.into());
        self
    }

    /// Caches what an origin has.
    pub fn origin(self, url: &str) -> Self {
        let listen = self.slice.to_string();
        self.arg("--slice-origin").arg(url).arg("--slice-listen").arg(listen)
    }

    /// Serves TLS with a certificate and its key, which `authority` signed.
    pub fn tls(self, (cert, key): &(PathBuf, PathBuf), authority: &Path) -> Self {
        let name = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let mut setup = self.arg("--tls-cert").arg(name(cert)).arg("--tls-key").arg(name(key));
        setup.curl = vec!["--cacert".to_owned(), name(authority)];
        setup
    }

    /// Asks clients for a certificate of `authority`; ours is this one.
    pub fn client_ca(self, authority: &Path, (cert, key): &(PathBuf, PathBuf)) -> Self {
        let name = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let mut setup = self.arg("--tls-client-ca").arg(name(authority));
        setup.curl.extend(["--cert".to_owned(), name(cert), "--key".to_owned(), name(key)]);
        setup
    }

    /// curl, told whom to trust.
    pub fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--max-time", "60"]).args(&self.curl);
        command
    }

    /// A command to run the daemon by, such as a launcher that then executes its arguments.
    pub fn by(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A path beside the data directory, for the test's own files.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The server as the command line verbs name it.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.blob)
    }

    /// A path of the ops port.
    pub fn ops_url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme(), self.ops)
    }

    fn scheme(&self) -> &'static str {
        if self.curl.is_empty() { "http" } else { "https" }
    }

    /// The command line of `serve`.
    pub fn command(&self) -> Command {
        let mut words = self.wrapper.clone();
        words.push(binary().to_str().expect("UTF-8").to_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["serve", "--cpuset", &self.cpuset, "--memory", &self.memory])
            .args(["--blob-listen", &self.blob.to_string()])
            .args(["--ops-listen", &self.ops.to_string()])
            .arg("--data-dir")
            .arg(&self.data)
            .args(&self.extra)
            .current_dir(self.home.path());
        without_our_settings(&mut command);
        command
    }

    /// Starts and waits until the daemon says it is ready.
    pub fn start(&self) -> Node {
        let _switch = fuse::keep_switched_on();
        self.start_now()
    }

    /// The same, whatever other tests switch.
    pub fn start_now(&self) -> Node {
        let log = OpenOptions::new().create(true).append(true).open(self.path("stderr")).expect("a log");
        let child = spawn(&mut self.command(), log);
        let mut node = Node { setup: self.clone(), child };
        node.must_become_ready();
        node
    }

    /// Runs `serve` where it must refuse to start.
    pub fn run_refused(&self) -> Finished {
        let finished = command::run(&mut self.command(), EXIT_DEADLINE);
        assert_ne!(finished.code, 0, "serve began and ended well: {}", finished.stderr);
        finished
    }
}

fn spawn(command: &mut Command, log: File) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Takes `BASALT_*` out of a command's environment: the daemon reads its settings there.
pub fn without_our_settings(command: &mut Command) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("BASALT_") {
            command.env_remove(name);
        }
    }
}

/// A running daemon. Dropping it kills it, and prints its log when the test failed.
#[derive(Debug)]
pub struct Node {
    /// What it was started as.
    pub setup: Setup,
    child: Child,
}

impl Node {
    /// Starts a node with the usual setup.
    pub fn start() -> Self {
        Setup::new().start()
    }

    fn must_become_ready(&mut self) {
        let begin = Instant::now();
        let request = Request::new("GET", "/readyz").header("Connection", "close");
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                panic!("serve ended with {status}: {}", self.stderr());
            }
            if !self.setup.curl.is_empty() {
                if self.is_ready_over_tls() {
                    return;
                }
            } else if let Ok(mut conn) = Conn::try_open(self.setup.ops) {
                conn.set_patience(PROBE_PATIENCE);
                match conn.try_call(&request) {
                    Ok(reply) if reply.status == 200 => return,
                    Err(Fault::Silent) => panic!("/readyz took the request and is silent"),
                    _ => {}
                }
            }
            let waited = begin.elapsed();
            assert!(waited < START_DEADLINE, "not ready in {waited:?}: {}", self.stderr());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_ready_over_tls(&self) -> bool {
        let mut curl = self.setup.curl();
        curl.arg("--fail").arg(self.setup.ops_url("/readyz"));
        command::run(&mut curl, START_DEADLINE).code == 0
    }

    /// A client of the blob interface.
    pub fn client(&self) -> Client {
        Client::new(self.setup.blob)
    }

    /// A client of the ops port.
    pub fn ops(&self) -> Client {
        Client::new(self.setup.ops)
    }

    /// A connection to the caching proxy.
    pub fn slice(&self) -> Conn {
        Conn::open(self.setup.slice)
    }

    /// A connection to the blob interface.
    pub fn conn(&self) -> Conn {
        Conn::open(self.setup.blob)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that was written to stderr since the first start in this directory.
    pub fn stderr(&self) -> String {
        let bytes = fs::read(self.setup.path("stderr")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends TERM and does not wait.
    pub fn term(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends HUP and does not wait.
    pub fn hup(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends USR1 and does not wait.
    pub fn usr1(&self) {
        self.signal(Signal::USR1);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("our child can be signalled");
    }

    /// Waits for the end; `None` when it still runs at the deadline.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        command::wait(&mut self.child, deadline)
    }

    /// Stops by TERM; must end with 0.
    pub fn stop(&mut self) {
        self.term();
        let status = self.wait(EXIT_DEADLINE);
        let status = status.unwrap_or_else(|| panic!("TERM does not end it: {}", self.stderr()));
        assert_eq!(status.code(), Some(0), "after TERM: {}", self.stderr());
    }

    /// Kills with KILL and waits for the end.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("our child can be waited for");
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Starts again where it was stopped or killed, with `setup`.
    pub fn start_as(self, setup: Setup) -> Self {
        drop(self);
        setup.start()
    }

    /// Starts again where it was stopped or killed.
    pub fn start_again(self) -> Self {
        let setup = self.setup.clone();
        self.start_as(setup)
    }

    /// A number of bytes from `/proc/<pid>/status`, such as `VmRSS`.
    pub fn status_bytes(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the process is there");
        let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no {field} in {status}")) << 10
    }

    /// Runs a verb of the command line against this node.
    pub fn verb(&self, verb: &str, args: &[&Path], input: &[u8]) -> Finished {
        let mut command = Command::new(binary());
        without_our_settings(&mut command);
        command.arg(verb).args(args).env("BASALT_SERVER", self.setup.url());
        command::run_with_input(&mut command, input, Duration::from_secs(120))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            let log = self.stderr();
            // A backtrace may be longer than what is shown.
            for (at, _) in log.match_indices(" panicked at ") {
                eprintln!("{}", log[at..].lines().take(3).collect::<Vec<_>>().join("\n"));
            }
            let tail = log.len().saturating_sub(4000);
            eprintln!("the daemon's log:\n{}", log.get(tail..).unwrap_or(&log));
        }
    }
}
