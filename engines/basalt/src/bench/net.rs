//! Loads an echo server over TCP: every connection sends a message, awaits it back, and sends the next.
//!
//! Without a target the server is ours, on a column of the first CPU, and the load runs on the last: figures are then of
//! both together.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use runtime::column::{self, Body, Column, Columns, Plan};
use runtime::io::{Conn, Io, Listener as _};
use runtime::ring::{Listener, RingConn};

use super::measure::Pace;
use super::report::Report;
use super::sockets::{Answer, Load, Question, Talk};
use super::{columns, threads};
use crate::cli::bench::BenchNet;
use crate::config::size::Bytes;
use crate::error::Error;

const SIZE_BYTES_MAX: u64 = 64 << 20;
const ARENA_BYTES: usize = 16 << 20;

/// Runs the load.
pub fn run(args: &BenchNet) -> Result<Report, Error> {
    if args.size > SIZE_BYTES_MAX {
        return Err(Error::usage("--size is 64 MiB at most"));
    }
    let cpus = columns::choose_cpus(args.run.cpuset.as_deref())?;
    let (addr, server) = match &args.target {
        Some(target) => (threads::resolve(target)?, None),
        None => start_echo(cpus[0]).map(|(addr, columns)| (addr, Some(columns)))?,
    };
    let load = Load { addr, connections: args.connections as usize, rate: None };
    let talk = Echo::new(args.size as usize, load.connections);
    let outcome = threads::run(&load, cpus[cpus.len() - 1], Pace::new(args.run.seconds), talk);
    if let Some(columns) = server {
        columns.stop();
        columns.join();
    }
    let (window, recorder, _) = outcome?;
    let title = format!("echo of {} over {} connections, {addr}", Bytes(args.size), args.connections);
    Ok(Report::new(title, window, &recorder))
}

/// Messages of one size, back and forth.
struct Echo {
    message: Arc<[u8]>,
    heard: Vec<usize>,
}

impl Echo {
    fn new(size: usize, connections: usize) -> Self {
        Self { message: (0..size).map(|at| at as u8).collect(), heard: vec![0; connections] }
    }
}

impl Talk for Echo {
    fn ask(&mut self, connection: usize) -> Option<Question> {
        self.heard[connection] = 0;
        Some(Question { shared: Some(self.message.clone()), ..Question::default() })
    }

    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String> {
        let from = self.heard[connection];
        let expected = self.message.get(from..from + bytes.len());
        if expected != Some(bytes) {
            return Err(format!("not an echo, at byte {from}"));
        }
        self.heard[connection] += bytes.len();
        if self.heard[connection] < self.message.len() {
            return Ok(Answer::Partial);
        }
        // Sent and received.
        let bytes = 2 * self.message.len() as u64;
        Ok(Answer::Whole { bytes, keep: true })
    }
}

/// An echo server on a column of its own.
fn start_echo(cpu: usize) -> Result<(SocketAddr, Columns), Error> {
    let plan = Plan { cpus: vec![cpu], arena_bytes: ARENA_BYTES, spin_ns: 0 };
    let bells = columns::doorbells(1)?;
    let (send, address) = channel();
    let columns = column::start(&plan, bells, move |column| listen(column, send.clone()))
        .map_err(|why| Error::runtime("cannot start the echo server").why(why))?;
    let addr = address.recv().map_err(|_| Error::runtime("the echo server has no address"))?;
    Ok((addr, columns))
}

async fn listen(column: Column, send: Sender<SocketAddr>) -> Result<Body, String> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = column.io.listen(any).map_err(|error| error.to_string())?;
    let addr = listener.local_addr().map_err(|error| error.to_string())?;
    let _ = send.send(addr);
    let io = column.io.clone();
    column.io.spawn("accept", async move {
        accept_all(&io, listener).await;
    });
    let body: Body = Box::pin(async move { column.stopped().await });
    Ok(body)
}

async fn accept_all(io: &runtime::ring::RingIo, mut listener: Listener) {
    while let Ok(conn) = listener.accept().await {
        io.spawn("echo", echo(conn));
    }
}

async fn echo(mut conn: RingConn) {
    while let Ok(chunk) = conn.recv().await {
        if chunk.as_ref().is_empty() || conn.send(chunk.as_ref(), &[]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_checked_byte_by_byte() {
        let mut talk = Echo::new(4, 1);
        assert!(talk.ask(0).is_some_and(|q| q.head.is_empty()));
        assert_eq!(talk.hear(0, &[0, 1]), Ok(Answer::Partial));
        let whole = Answer::Whole { bytes: 8, keep: true };
        assert_eq!(talk.hear(0, &[2, 3]), Ok(whole));
        talk.ask(0);
        assert!(talk.hear(0, &[1]).is_err());
        talk.ask(0);
        assert!(talk.hear(0, &[0, 1, 2, 3, 4]).is_err());
    }
}
