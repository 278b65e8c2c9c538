//! One thread of plain non-blocking sockets that asks and awaits answers: the client of `bench net`, `blob` and `slice`.
//!
//! Closed loop, each connection asks again as soon as it is answered. With a rate, question n is due at its time whatever
//! the server does, goes out on the first idle connection from then on, and its latency counts from when it was *due*: a
//! stalled server makes all questions of that time slow, not only those it had taken (no coordinated omission).

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::measure::{Phase, Recorder};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the answers under way when the time is over.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to sleep at most before looking at the phase again.
const NAP: Duration = Duration::from_millis(50);
const RECEIVE_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 256;

/// A question: its own bytes, then bytes shared with other questions.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Sent first.
    pub head: Vec<u8>,
    /// Sent after it, from `shared_from` on.
    pub shared: Option<Arc<[u8]>>,
    /// Where in `shared` to begin.
    pub shared_from: usize,
}

/// What received bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More is to come.
    Partial,
    /// The answer is whole: bytes that count as moved, and whether the connection can be used again.
    Whole { bytes: u64, keep: bool },
}

/// The protocol: what to ask and how to tell the end of an answer. Connections are numbered from 0.
pub trait Talk {
    /// The next question; `None`: there are no more.
    fn ask(&mut self, connection: usize) -> Option<Question>;
    /// Takes in bytes of the answer; an error ends the run.
    fn hear(&mut self, connection: usize, bytes: &[u8]) -> Result<Answer, String>;
}

/// Whom to ask, on how many connections, how often.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub addr: SocketAddr,
    /// Connections held.
    pub connections: usize,
    /// Questions per second over all of them; `None`: closed loop.
    pub rate: Option<u64>,
}

struct Connection {
    stream: TcpStream,
    question: Question,
    sent: usize,
    heard: bool,
    /// Since when the answer is awaited; `None`: idle.
    since: Option<Instant>,
    awaits_room: bool,
}

/// The due times of an open loop.
struct Schedule {
    start: Instant,
    per_second: u64,
    next: u64,
}

impl Schedule {
    fn new(start: Instant, per_second: u64) -> Self {
        Self { start, per_second, next: 0 }
    }

    /// When the next question is due.
    fn due(&self) -> Instant {
        let ns = u128::from(self.next) * 1_000_000_000 / u128::from(self.per_second);
        self.start + Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// Takes the next question if it is due by `now`.
    fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.due();
        (due <= now).then(|| {
            self.next += 1;
            due
        })
    }
}

/// Asks until the questions or the time are over.
pub fn drive(
    load: &Load,
    talk: &mut impl Talk,
    phase: &Phase,
    recorder: &mut Recorder,
) -> Result<(), String> {
    let mut client = Client::connect(load)?;
    client.run(talk, phase, recorder)
}

struct Client<'l> {
    load: &'l Load,
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    schedule: Option<Schedule>,
    received: Vec<u8>,
}

impl<'l> Client<'l> {
    fn connect(load: &'l Load) -> Result<Self, String> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| format!("cannot make an epoll descriptor: {error}"))?;
        let mut client = Self {
            load,
            epoll,
            connections: Vec::new(),
            idle: (0..load.connections).collect(),
            schedule: load.rate.map(|rate| Schedule::new(Instant::now(), rate)),
            received: vec![0; RECEIVE_BYTES],
        };
        for number in 0..load.connections {
            let stream = client.open(number)?;
            client.connections.push(Connection {
                stream,
                question: Question::default(),
                sent: 0,
                heard: false,
                since: None,
                awaits_room: false,
            });
        }
        client.schedule = load.rate.map(|rate| Schedule::new(Instant::now(), rate));
        Ok(client)
    }

    fn open(&self, number: usize) -> Result<TcpStream, String> {
        let failed = |error: std::io::Error| format!("connect to {}: {error}", self.load.addr);
        let stream = TcpStream::connect_timeout(&self.load.addr, CONNECT_TIMEOUT).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)
            .map_err(|error| failed(error.into()))?;
        Ok(stream)
    }

    fn run(&mut self, talk: &mut impl Talk, phase: &Phase, recorder: &mut Recorder) -> Result<(), String> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let mut is_asking = true;
        let mut drain_until = None;
        loop {
            if is_asking {
                is_asking = !phase.is_done() && self.ask_all_due(talk)?;
            }
            if !is_asking {
                let until = *drain_until.get_or_insert_with(|| Instant::now() + DRAIN_TIMEOUT);
                if self.idle.len() == self.connections.len() || Instant::now() > until {
                    return Ok(());
                }
            }
            self.wait(&mut events, is_asking)?;
            for event in events.drain(..) {
                let number = event.data.u64() as usize;
                // Copied out: the struct is packed.
                let flags = event.flags;
                if flags.contains(epoll::EventFlags::OUT) {
                    self.send(number)?;
                }
                if flags != epoll::EventFlags::OUT {
                    self.receive(number, talk, recorder)?;
                    if is_asking && self.schedule.is_none() && self.idle.back() == Some(&number) {
                        is_asking = !phase.is_done() && self.ask_all_due(talk)?;
                    }
                }
            }
        }
    }

    /// Gives every question that is due to an idle connection. False: there are no more questions.
    fn ask_all_due(&mut self, talk: &mut impl Talk) -> Result<bool, String> {
        while let Some(&number) = self.idle.front() {
            let since = match &mut self.schedule {
                None => Instant::now(),
                Some(schedule) => match schedule.take_due(Instant::now()) {
                    Some(due) => due,
                    None => return Ok(true),
                },
            };
            let Some(question) = talk.ask(number) else {
                return Ok(false);
            };
            self.idle.pop_front();
            let connection = &mut self.connections[number];
            connection.question = question;
            connection.sent = 0;
            connection.heard = false;
            connection.since = Some(since);
            self.send(number)?;
        }
        Ok(true)
    }

    fn wait(&self, events: &mut Vec<epoll::Event>, is_asking: bool) -> Result<(), String> {
        let mut nap = NAP;
        if let Some(schedule) = self.schedule.as_ref().filter(|_| is_asking && !self.idle.is_empty()) {
            nap = nap.min(schedule.due().saturating_duration_since(Instant::now()));
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(nap.subsec_nanos()) };
        let room = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(format!("epoll_wait: {error}")),
        }
    }

    fn send(&mut self, number: usize) -> Result<(), String> {
        let connection = &mut self.connections[number];
        if connection.since.is_none() {
            return self.await_room(number, false);
        }
        let head = &connection.question.head;
        let from = connection.question.shared_from;
        let shared = connection.question.shared.as_deref().unwrap_or_default();
        let shared = shared.get(from..).unwrap_or_default();
        while connection.sent < head.len() + shared.len() {
            let in_head = connection.sent.min(head.len());
            let in_shared = connection.sent - in_head;
            let parts = [IoSlice::new(&head[in_head..]), IoSlice::new(&shared[in_shared..])];
            match connection.stream.write_vectored(&parts) {
                Ok(0) => return Err("the server takes no more bytes".into()),
                Ok(count) => connection.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.await_room(number, true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The server may have answered (an error, say) and closed: the answer tells more.
                Err(error) if is_hangup(error.kind()) => return self.await_room(number, false),
                Err(error) => return Err(format!("send: {error}")),
            }
        }
        self.await_room(number, false)
    }

    fn await_room(&mut self, number: usize, awaits: bool) -> Result<(), String> {
        let connection = &mut self.connections[number];
        if std::mem::replace(&mut connection.awaits_room, awaits) == awaits {
            return Ok(());
        }
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, awaits);
        let data = epoll::EventData::new_u64(number as u64);
        epoll::modify(&self.epoll, &connection.stream, data, flags)
            .map_err(|error| format!("epoll_ctl: {error}"))
    }

    fn receive(
        &mut self,
        number: usize,
        talk: &mut impl Talk,
        recorder: &mut Recorder,
    ) -> Result<(), String> {
        loop {
            let connection = &mut self.connections[number];
            let count = match connection.stream.read(&mut self.received) {
                Ok(0) => return self.reopen(number),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if is_hangup(error.kind()) => return self.reopen(number),
                Err(error) => return Err(format!("receive: {error}")),
            };
            let Some(since) = connection.since else {
                return Err("the server spoke without being asked".into());
            };
            if !std::mem::replace(&mut connection.heard, true) {
                recorder.record_first_byte(since.elapsed().as_nanos() as u64);
            }
            match talk.hear(number, &self.received[..count])? {
                Answer::Partial if count < self.received.len() => return Ok(()),
                Answer::Partial => {}
                Answer::Whole { bytes, keep } => {
                    recorder.record(since.elapsed().as_nanos() as u64, bytes);
                    connection.since = None;
                    connection.heard = false;
                    self.idle.push_back(number);
                    return if keep { Ok(()) } else { self.reopen(number) };
                }
            }
        }
    }

    /// The server closed a kept connection, as it may between answers: connects and asks the same again.
    fn reopen(&mut self, number: usize) -> Result<(), String> {
        if self.connections[number].heard {
            return Err("the server closed the connection inside an answer".into());
        }
        let stream = self.open(number)?;
        let connection = &mut self.connections[number];
        connection.stream = stream;
        connection.sent = 0;
        connection.awaits_room = false;
        self.send(number)
    }
}

fn is_hangup(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests;
