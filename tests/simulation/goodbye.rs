//! A connection of HTTP/2 that has been idle for too long ends by GOAWAY, over simulated time.

use net::http1::{Head, Status};
use net::{Exchange, Limits, Refusal, Server, Service};
use runtime::io::{Conn, Io, Listener};
use runtime::twin::{FaultPlan, Twin, TwinConn, TwinIo};
use std::future::Future;
use std::io;

const SECOND_NS: u64 = 1_000_000_000;
const IDLE_NS: u64 = 5 * SECOND_NS;
const LIMIT_NS: u64 = 60 * SECOND_NS;
const SEEDS: u64 = 8;

const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// Of SETTINGS and PING; of HEADERS: END_STREAM.
const ACK: u8 = 1;
/// `GET http://h/`, from the static table (RFC 7541, appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x01, 1, b'h'];

/// Has nothing.
struct Nothing;

impl Service<TwinIo> for Nothing {
    type Request = ();

    fn route(&self, _: &Head<'_>) -> Result<(), Refusal> {
        Err(Refusal::new(Status::NotFound, "there is nothing here"))
    }

    async fn respond(&self, (): (), _: &mut Exchange<'_, TwinIo>) -> io::Result<()> {
        unreachable!("no request is taken")
    }
}

/// A client, which notes when what came.
struct Client {
    io: TwinIo,
    conn: TwinConn,
    unread: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

impl Client {
    /// Connects to a server, and says what is said first.
    async fn open(io: &TwinIo) -> Client {
        let addr = "127.0.0.1:9000".parse().expect("an address");
        let mut listener = io.listen(addr).expect("listens");
        let server = Server::new(io, Nothing, Limits { idle_wait_ns: IDLE_NS, ..Limits::default() });
        let conn = io.connect(addr).await.expect("connected");
        server.serve(listener.accept().await.expect("accepted"));
        let mut client = Client { io: io.clone(), conn, unread: Vec::new() };
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        client.send(&frame(4, 0, 0, &[])).await;
        client.send(&frame(4, ACK, 0, &[])).await;
        client
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.conn.send(bytes, &[]).await.expect("sent");
    }

    async fn get(&mut self, stream: u32) {
        self.send(&frame(1, ACK | 4, stream, GET)).await;
    }

    /// The next frame, its kind, flags and payload; `None`: the connection has ended.
    async fn next(&mut self) -> Option<(u8, u8, Vec<u8>)> {
        loop {
            if let Some((head, rest)) = self.unread.split_at_checked(9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if let Some(payload) = rest.get(..length) {
                    let next = (head[3], head[4], payload.to_vec());
                    self.unread.drain(..9 + length);
                    return Some(next);
                }
            }
            let chunk = self.conn.recv().await.expect("no reset");
            if chunk.is_empty() {
                assert!(self.unread.is_empty(), "cut within a frame");
                return None;
            }
            self.unread.extend(chunk);
        }
    }

    /// Last stream and error code of the GOAWAY that comes, perhaps behind other frames.
    async fn goaway(&mut self) -> (u32, u32) {
        loop {
            let (kind, _, payload) = self.next().await.expect("no end without GOAWAY");
            if kind == GOAWAY {
                let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four"));
                return (number(0), number(4));
            }
        }
    }

    fn seconds(&self) -> f64 {
        self.io.now_ns() as f64 / SECOND_NS as f64
    }
}

fn simulate<F: Future<Output = ()> + 'static>(check: fn(TwinIo) -> F) {
    for seed in 0..SEEDS {
        let twin = Twin::new(seed, 1 << 20, FaultPlan::none());
        twin.run(LIMIT_NS, check(twin.outside()));
    }
}

#[test]
fn an_idle_connection_is_told_and_ends_when_that_is_acknowledged() {
    simulate(|io| async move {
        let mut client = Client::open(&io).await;
        assert_eq!(client.goaway().await, (0x7fff_ffff, 0), "no stream is refused yet");
        let told = client.seconds();
        assert!((5.0..6.0).contains(&told), "after {told} s");
        let (kind, flags, payload) = client.next().await.expect("is it heard?");
        assert_eq!((kind, flags), (PING, 0));
        client.send(&frame(PING, ACK, 0, &payload)).await;
        assert_eq!(client.goaway().await, (0, 0));
        assert!(client.next().await.is_none() && client.seconds() < told + 0.5, "{} s", client.seconds());
    });
}

#[test]
fn one_that_acknowledges_nothing_ends_too() {
    simulate(|io| async move {
        let mut client = Client::open(&io).await;
        client.goaway().await;
        while client.next().await.is_some() {}
        assert!(client.seconds() < 5.0 + 3.0, "after {} s", client.seconds());
    });
}

#[test]
fn requests_keep_a_connection_and_one_that_crosses_the_goodbye_is_answered() {
    simulate(|io| async move {
        let mut client = Client::open(&io).await;
        for stream in [1, 3, 5] {
            io.sleep(4 * SECOND_NS).await;
            client.get(stream).await;
        }
        assert_eq!(client.goaway().await, (0x7fff_ffff, 0));
        let told = client.seconds();
        assert!((17.0..18.5).contains(&told), "after {told} s");
        client.get(7).await;
        let mut answers = 0;
        while let Some((kind, _, payload)) = client.next().await {
            answers += u32::from(kind == 1);
            if kind == PING {
                client.send(&frame(PING, ACK, 0, &payload)).await;
            }
        }
        assert_eq!(answers, 1, "of the last request: the others were answered before");
    });
}
