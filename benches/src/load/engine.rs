//! Drives all connections: a warm-up, then the measured window. Times inside are nanoseconds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::connection::{Connection, Scratch, Step};
use super::plan::Plan;
use crate::net::Poll;
use crate::{Result, cpu};

/// Failures after which the run is given up: something is wrong that no figure should hide.
const MAX_FAILURES: u64 = 1000;

/// How long and how wide.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The server.
    pub address: SocketAddr,
    /// Connections, each with one request under way.
    pub conns: usize,
    /// Seconds before the window, not counted.
    pub warmup_seconds: f64,
    /// Seconds of the window, unless `requests` ends it first.
    pub seconds: f64,
    /// Requests in the window; 0 for no limit.
    pub requests: u64,
    /// Every connection asks once; the window ends when all are answered.
    pub is_once: bool,
    /// Bodies are dropped in the kernel.
    pub discard: bool,
    /// Server processes whose CPU time is read.
    pub pids: Vec<u32>,
    /// The server's core.
    pub server_core: Option<usize>,
}

/// What happened in the window.
#[derive(Debug)]
pub struct Outcome {
    /// Whole, right responses.
    pub requests: u64,
    /// Wrong or missing ones.
    pub errors: u64,
    /// Body bytes: received for GET, acknowledged for PUT.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
    /// Request to last byte, ns.
    pub latency: Histogram<u64>,
    /// Request to first byte, ns.
    pub first_byte: Histogram<u64>,
    /// CPU of this process.
    pub generator_seconds: f64,
    /// CPU of the server's processes.
    pub server_seconds: Option<f64>,
    /// The server's core.
    pub core: Option<cpu::CoreSeconds>,
    /// The first error's text.
    pub first_failure: Option<String>,
}

struct Clocks {
    own: f64,
    server: Option<f64>,
    core: Option<cpu::CoreSeconds>,
}

impl Clocks {
    fn read(shape: &Shape) -> Result<Self> {
        let mut server = None;
        for &pid in &shape.pids {
            *server.get_or_insert(0.0) += cpu::process_seconds(pid)?;
        }
        let core = shape.server_core.map(cpu::CoreSeconds::read).transpose()?;
        Ok(Self { own: cpu::own_seconds(), server, core })
    }
}

struct Window {
    latency: Histogram<u64>,
    first_byte: Histogram<u64>,
    requests: u64,
    errors: u64,
    limit: u64,
}

impl Window {
    fn new(limit: u64) -> Result<Self> {
        let histogram = || Histogram::new_with_max(600_000_000_000, 3);
        Ok(Self { latency: histogram()?, first_byte: histogram()?, requests: 0, errors: 0, limit })
    }

    fn full(&self) -> bool {
        (self.limit > 0 && self.requests >= self.limit) || self.errors >= MAX_FAILURES
    }

    fn record(&mut self, connection: &Connection) {
        let elapsed = connection.started.elapsed().as_nanos() as u64;
        self.latency.saturating_record(elapsed);
        let first = connection.first_byte.map_or(elapsed, |at| (at - connection.started).as_nanos() as u64);
        self.first_byte.saturating_record(first);
        self.requests += 1;
    }
}

/// Runs `plan` in `shape` and says what happened in the window.
pub fn run(shape: &Shape, plan: &mut Plan) -> Result<Outcome> {
    let poll = Poll::new()?;
    let mut scratch = Scratch::new(shape.discard);
    let mut connections = Vec::with_capacity(shape.conns);
    for index in 0..shape.conns {
        let mut connection = Connection::open(shape.address)?;
        connection.begin(plan);
        connection.watching = libc::EPOLLIN | libc::EPOLLOUT;
        poll.watch(connection.fd(), connection.watching, index, false)?;
        connections.push(connection);
    }
    let mut driver = Driver { shape, plan, poll, connections, scratch: &mut scratch };
    if shape.warmup_seconds > 0.0 {
        driver.drive(&mut Window::new(0)?, Duration::from_secs_f64(shape.warmup_seconds))?;
    }
    driver.scratch.body_bytes = 0;
    let before = Clocks::read(shape)?;
    let start = Instant::now();
    let mut window = Window::new(if shape.is_once { shape.conns as u64 } else { shape.requests })?;
    driver.drive(&mut window, Duration::from_secs_f64(shape.seconds))?;
    let seconds = start.elapsed().as_secs_f64();
    let after = Clocks::read(shape)?;
    let put_bytes = plan.request_bytes() * window.requests;
    Ok(Outcome {
        requests: window.requests,
        errors: window.errors,
        bytes: if put_bytes > 0 { put_bytes } else { scratch.body_bytes },
        seconds,
        latency: window.latency,
        first_byte: window.first_byte,
        generator_seconds: after.own - before.own,
        server_seconds: after.server.zip(before.server).map(|(a, b)| a - b),
        core: after.core.zip(before.core).map(|(a, b)| a.since(&b)),
        first_failure: scratch.first_failure,
    })
}

struct Driver<'r> {
    shape: &'r Shape,
    plan: &'r mut Plan,
    poll: Poll,
    connections: Vec<Connection>,
    scratch: &'r mut Scratch,
}

impl Driver<'_> {
    fn drive(&mut self, window: &mut Window, length: Duration) -> Result<()> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 256];
        let start = Instant::now();
        let mut last_progress = start;
        while start.elapsed() < length && !window.full() {
            let ready = self.poll.wait(&mut events, 100)?;
            if !ready.is_empty() {
                last_progress = Instant::now();
            } else if last_progress.elapsed() > Duration::from_secs(30) {
                return Err("no response for 30 s".into());
            }
            for event in ready {
                self.advance(event.u64 as usize, window)?;
                if window.full() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, index: usize, window: &mut Window) -> Result<()> {
        let connection = &mut self.connections[index];
        let mut step = connection.step(self.plan, self.scratch)?;
        if step == Step::Done {
            window.record(connection);
            if window.full() {
                return Ok(());
            }
            if self.shape.is_once {
                return self.poll.watch(connection.fd(), 0, index, true);
            }
            connection.begin(self.plan);
            step = connection.step(self.plan, self.scratch)?;
            if step == Step::Done {
                // An answer within the same call: let the others have their turn, epoll comes back at once.
                window.record(connection);
                connection.begin(self.plan);
                step = Step::WantWrite;
            }
        }
        let wanted = match step {
            Step::Failed => return self.reopen(index, window),
            Step::WantWrite => libc::EPOLLIN | libc::EPOLLOUT,
            Step::WantRead | Step::Done => libc::EPOLLIN,
        };
        if wanted != connection.watching {
            connection.watching = wanted;
            self.poll.watch(connection.fd(), wanted, index, true)?;
        }
        Ok(())
    }

    fn reopen(&mut self, index: usize, window: &mut Window) -> Result<()> {
        window.errors += 1;
        let mut connection = Connection::open(self.shape.address)?;
        connection.begin(self.plan);
        connection.watching = libc::EPOLLIN | libc::EPOLLOUT;
        self.poll.watch(connection.fd(), connection.watching, index, false)?;
        self.connections[index] = connection;
        Ok(())
    }
}
