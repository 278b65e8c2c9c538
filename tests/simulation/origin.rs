//! An origin on the twin: one object, served by ranges, over as many connections as are asked for.

use runtime::io::{Conn, Io, Listener};
use runtime::twin::{TwinConn, TwinIo};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

/// Sent at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Where it is.
pub fn url() -> String {
    format!("http://{}/object", addr())
}

fn addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7000))
}

/// Serves `body` from now on, with a pause before each piece.
pub fn serve(io: &TwinIo, body: Vec<u8>, pause_ns: u64) {
    serve_paced(io, body, Rc::new(Cell::new(pause_ns)));
}

/// As [`serve`], the pause being what `pause_ns` holds when it begins.
pub fn serve_paced(io: &TwinIo, body: Vec<u8>, pause_ns: Rc<Cell<u64>>) {
    let mut listener = io.listen(addr()).expect("nobody else listens there");
    let (tasks, body) = (io.clone(), Rc::new(body));
    io.spawn("origin", async move {
        loop {
            let conn = listener.accept().await.expect("no faults here");
            tasks.spawn("origin-connection", answer_all(tasks.clone(), conn, body.clone(), pause_ns.clone()));
        }
    });
}

async fn answer_all(io: TwinIo, mut conn: TwinConn, body: Rc<Vec<u8>>, pause_ns: Rc<Cell<u64>>) {
    let mut unread = Vec::new();
    loop {
        while let Some(end) = unread.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = unread.drain(..end + 4).collect();
            let (head, part) = answer(&body, &String::from_utf8_lossy(&head));
            for piece in std::iter::once(head.as_bytes()).chain(part.chunks(PIECE_BYTES)) {
                io.sleep(pause_ns.get()).await;
                // Clients come and go as they like.
                if conn.send(piece, &[]).await.is_err() {
                    return;
                }
            }
        }
        match conn.recv().await {
            Ok(chunk) if !chunk.is_empty() => unread.extend_from_slice(&chunk),
            _ => return,
        }
    }
}

fn answer<'b>(body: &'b [u8], head: &str) -> (String, &'b [u8]) {
    let range = head.lines().find_map(|l| l.strip_prefix("Range: bytes=")?.split_once('-'));
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let (from, last) = range.map_or((0, body.len() - 1), |(a, b)| (number(a), number(b)));
    let part = &body[from..(last + 1).min(body.len())];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nETag: \"1\"\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\n\r\n",
        from + part.len() - 1,
        body.len(),
        part.len()
    );
    (head, part)
}
