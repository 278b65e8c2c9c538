//! Receiving on the real ring when clients send more than is taken: the buffers of a column are for all of its connections.

mod on_column;

use on_column::on_column;
use runtime::io::{Conn, Io, Listener};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// More than a column has buffers for, at 8 KiB each, if nothing bounded what one connection takes.
const SENT_BYTES: usize = 8 << 20;
/// More connections than the bound of each lets a column serve out of its 512 buffers.
const CROWD: usize = 60;
const PATIENCE: Duration = Duration::from_secs(20);

fn sent(seed: usize) -> Vec<u8> {
    (0..SENT_BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ seed as u8).collect()
}

fn address() -> SocketAddr {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    free.local_addr().expect("bound")
}

/// Sends all of it, while the column takes it or not, and then waits for a byte.
fn flood(addr: SocketAddr, seed: usize) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut stream = connected(addr);
        stream.write_all(&sent(seed)).expect("taken in the end");
        stream.read_exact(&mut [0]).expect("an answer");
    })
}

fn connected(addr: SocketAddr) -> TcpStream {
    let stream = (0..200).find_map(|_| {
        thread::sleep(Duration::from_millis(10));
        TcpStream::connect(addr).ok()
    });
    let stream = stream.expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// Takes in what a client sent, of which `first` came before.
async fn must_take_all(conn: &mut impl Conn, first: Vec<u8>, seed: usize) {
    let mut got = first;
    while got.len() < SENT_BYTES {
        let chunk = conn.recv().await.expect("received");
        assert!(!chunk.as_ref().is_empty(), "ended after {} bytes", got.len());
        got.extend_from_slice(chunk.as_ref());
    }
    assert!(got == sent(seed), "other bytes than were sent");
    conn.send(b"!", b"").await.expect("sent");
}

#[test]
fn who_sends_and_is_not_taken_from_keeps_nobody_from_receiving() {
    for crowd in [1, CROWD] {
        let addr = address();
        let clients = thread::spawn(move || {
            let floods: Vec<_> = (0..crowd).map(|_| flood(addr, 7)).collect();
            thread::sleep(Duration::from_millis(500));
            let mut late = connected(addr);
            late.write_all(b"hello").expect("sent");
            late.read_exact(&mut [0]).expect("answered beside the crowd");
            floods.into_iter().for_each(|one| one.join().expect("done"));
        });
        on_column(move |column| async move {
            let mut listener = column.io.listen(addr).expect("listens");
            let mut conns = Vec::new();
            for _ in 0..crowd {
                let mut conn = listener.accept().await.expect("accepted");
                // From here on it receives by itself.
                let first = conn.recv().await.expect("received").as_ref().to_vec();
                conns.push((conn, first));
            }
            let mut late = listener.accept().await.expect("accepted");
            let mut got = Vec::new();
            while got.len() < 5 {
                got.extend_from_slice(late.recv().await.expect("received").as_ref());
            }
            late.send(b"!", b"").await.expect("sent");
            for (mut conn, first) in conns {
                must_take_all(&mut conn, first, 7).await;
            }
        });
        clients.join().expect("all are answered");
    }
}
