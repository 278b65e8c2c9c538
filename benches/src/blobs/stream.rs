//! One connection that reads one large body again and again and compares every word of it.

use std::net::SocketAddr;
use std::time::Instant;

use super::client::Client;
use super::content::Content;
use crate::{Result, cpu};

/// What to read.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub address: SocketAddr,
    /// Of the body.
    pub path: String,
    /// Which blob it is, and its size.
    pub blob: (u64, u64),
    /// Of the bytes.
    pub seed: u64,
    /// No body is begun after so many seconds; one is read in any case.
    pub seconds: f64,
    /// The server's processes.
    pub pids: Vec<u32>,
    /// The server's core.
    pub server_core: usize,
}

/// What came of it. CPU in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Whole, right bodies.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
    /// Of the server's processes.
    pub server_seconds: f64,
    /// Softirq on the server's core.
    pub softirq_seconds: f64,
    /// Of this process.
    pub own_seconds: f64,
}

/// Reads until the time is over.
pub fn run(plan: &Plan) -> Result<Outcome> {
    let content = Content::new(plan.seed);
    let mut client = Client::connect(plan.address)?;
    let server = || plan.pids.iter().map(|&pid| cpu::process_seconds(pid)).sum::<Result<f64>>();
    let before = (server()?, cpu::CoreSeconds::read(plan.server_core)?, cpu::own_seconds());
    let (begin, mut bodies, (number, size)) = (Instant::now(), 0, plan.blob);
    loop {
        let got = client.get(&plan.path, |at, bytes| content.check(number, at, bytes))?;
        if got != size {
            return Err(format!("a body of {size} bytes came as {got}").into());
        }
        bodies += 1;
        if begin.elapsed().as_secs_f64() >= plan.seconds {
            break;
        }
    }
    Ok(Outcome {
        bodies,
        bytes: bodies * size,
        seconds: begin.elapsed().as_secs_f64(),
        server_seconds: server()? - before.0,
        softirq_seconds: cpu::CoreSeconds::read(plan.server_core)?.since(&before.1).softirq,
        own_seconds: cpu::own_seconds() - before.2,
    })
}
