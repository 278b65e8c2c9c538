//! The sender of the body path: one thread, edge-triggered epoll, non-blocking sockets, no parsing.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use super::method::{Bodies, Response};
use super::{HEADER_BYTES, REQUEST_BYTES};
use crate::net::{Moved, Poll, accept, receive};
use crate::{Result, check, cpu};

/// What one run cost. Seconds are of the sending core.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Bytes of headers and bodies sent.
    pub bytes: u64,
    /// Wall time.
    pub wall_seconds: f64,
    /// User and system time of the sending process.
    pub process_seconds: f64,
    /// Softirq of the sending core, by tick.
    pub softirq_seconds: f64,
    /// Everything the sending core did.
    pub busy_seconds: f64,
    /// Everything the reading core did.
    pub reader_busy_seconds: f64,
}

struct Connection {
    stream: TcpStream,
    asked: usize,
    response: Response,
}

/// How the sender treats its sockets; 0 leaves the kernel's choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tuning {
    /// `SO_SNDBUF`, which also ends the kernel's own growing of it.
    pub send_buffer_bytes: i32,
    /// `TCP_NOTSENT_LOWAT`: room is reported only while fewer bytes than this wait to be sent.
    pub not_sent_bytes: i32,
}

/// Serves `conns` connections from `bodies` for `seconds` after a short warm-up, and reports what it cost.
pub fn run(
    listener: &TcpListener,
    bodies: &Bodies,
    conns: usize,
    tuning: Tuning,
    seconds: f64,
    cores: (usize, usize),
) -> Result<Cost> {
    let poll = Poll::new()?;
    let mut connections = Vec::with_capacity(conns);
    for index in 0..conns {
        let stream = accept(listener)?;
        let fd = stream.as_raw_fd();
        if bodies.zero_copy() {
            set(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
        }
        if tuning.send_buffer_bytes > 0 {
            set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, tuning.send_buffer_bytes)?;
        }
        if tuning.not_sent_bytes > 0 {
            set(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, tuning.not_sent_bytes)?;
        }
        let events = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET;
        poll.watch(stream.as_raw_fd(), events, index, false)?;
        let mut response = Response::default();
        response.body = index % bodies.count();
        connections.push(Connection { stream, asked: 0, response });
    }
    let header = [b'h'; HEADER_BYTES];
    serve_until(&poll, bodies, &header, &mut connections, Instant::now() + Duration::from_millis(150))?;
    let (server, reader) = (cpu::CoreSeconds::read(cores.0)?, cpu::CoreSeconds::read(cores.1)?);
    let (start, own) = (Instant::now(), cpu::own_seconds());
    let bytes =
        serve_until(&poll, bodies, &header, &mut connections, start + Duration::from_secs_f64(seconds))?;
    let process_seconds = cpu::own_seconds() - own;
    let wall_seconds = start.elapsed().as_secs_f64();
    let server = cpu::CoreSeconds::read(cores.0)?.since(&server);
    let reader = cpu::CoreSeconds::read(cores.1)?.since(&reader);
    Ok(Cost {
        bytes,
        wall_seconds,
        process_seconds,
        softirq_seconds: server.softirq,
        busy_seconds: server.busy(),
        reader_busy_seconds: reader.busy(),
    })
}

fn serve_until(
    poll: &Poll,
    bodies: &Bodies,
    header: &[u8; HEADER_BYTES],
    connections: &mut [Connection],
    end: Instant,
) -> Result<u64> {
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 64];
    let mut bytes = 0;
    while Instant::now() < end {
        for event in poll.wait(&mut events, 50)? {
            let connection = &mut connections[event.u64 as usize];
            if event.events & libc::EPOLLERR as u32 != 0 {
                reap_zero_copy(connection.stream.as_raw_fd());
            }
            bytes += step(bodies, header, connection, end)?;
        }
    }
    Ok(bytes)
}

/// Reads requests and sends responses on one connection until neither moves.
fn step(
    bodies: &Bodies,
    header: &[u8; HEADER_BYTES],
    connection: &mut Connection,
    end: Instant,
) -> Result<u64> {
    let fd = connection.stream.as_raw_fd();
    let mut bytes = 0;
    let mut calls = 0u32;
    loop {
        if connection.asked < REQUEST_BYTES {
            let mut request = [0u8; REQUEST_BYTES];
            match receive(fd, &mut request[connection.asked..])? {
                Moved::Later => return Ok(bytes),
                Moved::Closed => return Err("the reader went away".into()),
                Moved::Bytes(n) => connection.asked += n,
            }
            continue;
        }
        match bodies.send(fd, header, &mut connection.response)? {
            Moved::Later if bodies.zero_copy() && reap_zero_copy(fd) && Instant::now() < end => {
                continue;
            }
            Moved::Later => return Ok(bytes),
            Moved::Closed => return Err("the reader went away".into()),
            Moved::Bytes(n) => {
                connection.response.sent += n;
                bytes += n as u64;
            }
        }
        if bodies.zero_copy() {
            calls += 1;
            if calls.is_multiple_of(8) {
                reap_zero_copy(fd);
            }
        }
        if connection.response.sent == bodies.response_bytes() {
            connection.response.sent = 0;
            connection.response.body = (connection.response.body + 1) % bodies.count();
            connection.asked = 0;
        }
    }
}

fn set(fd: RawFd, level: i32, option: i32, value: i32) -> Result<()> {
    let len = size_of::<i32>() as u32;
    // SAFETY: the kernel reads one int.
    let returned = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) };
    check(&format!("socket option {level}/{option} = {value}"), i64::from(returned)).map(|_| ())
}

/// Takes all completions off the error queue; whether there was one.
fn reap_zero_copy(fd: RawFd) -> bool {
    let mut control = [0u8; 128];
    let mut any = false;
    loop {
        // SAFETY: a zeroed msghdr with a control buffer of its stated length.
        let returned = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = control.len();
            libc::recvmsg(fd, &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
        };
        if returned < 0 {
            return any;
        }
        any = true;
    }
}
