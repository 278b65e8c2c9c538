//! The origin on simulated connections: serves the newest version of each object by ranges and conditions, or lies as `lies` says;
//! writes down what it was asked and what it sent.
//!
//! What it never does is to send bytes of one version under the validator of another, or of one place under the label of
//! another: nobody could see that.

use super::lies::{LIES, Lie};
use super::objects::date;
use super::reply::{CLIENTS_FIELD, Framing, Reply, Request, head_of, reply};
use super::world::{Logged, World};
use runtime::io::{Conn, Io, Listener};
use runtime::twin::{Rng, TwinConn, TwinIo};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

/// Sent at a time, at most.
const PIECE_BYTES: usize = 48 << 10;
/// Between pieces: most do not wait.
const PAUSES_NS: [u64; 8] = [0, 0, 0, 0, 0, 2_000_000, 20_000_000, 300_000_000];
const FORGES_AFTER_NS: u64 = 5_000_000;
/// What no object ever was.
const FORGED: &str =
    "HTTP/1.1 200 OK\r\nETag: \"forged\"\r\nCache-Control: max-age=9\r\nContent-Length: 6\r\n\r\nforged";
const ACCEPT_RETRY_NS: u64 = 1_000_000;

/// Where it is.
pub fn url() -> String {
    format!("http://{}", addr())
}

fn addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7000))
}

/// Serves from now on.
pub fn serve(io: &TwinIo, world: &Rc<World>, seed: u64) {
    let mut listener = io.listen(addr()).expect("nobody else listens there");
    let origin = Rc::new(Origin { io: io.clone(), world: world.clone(), rng: RefCell::new(Rng::new(seed)) });
    io.spawn("origin", async move {
        loop {
            match listener.accept().await {
                Ok(conn) => origin.io.spawn("origin-connection", origin.clone().converse(conn)),
                Err(_) => origin.io.sleep(ACCEPT_RETRY_NS).await,
            }
        }
    });
}

struct Origin {
    io: TwinIo,
    world: Rc<World>,
    rng: RefCell<Rng>,
}

impl Origin {
    async fn converse(self: Rc<Self>, mut conn: TwinConn) {
        let mut unread: Vec<u8> = Vec::new();
        let boot = self.world.boot.get();
        loop {
            while let Some(end) = unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = unread.drain(..end + 4).collect();
                let request = Request::parse(&String::from_utf8_lossy(&head));
                let body = request.field("content-length").map_or(0, |v| v.parse().expect("a length"));
                while unread.len() < body {
                    match conn.recv().await {
                        Ok(chunk) if !chunk.is_empty() => unread.extend_from_slice(&chunk),
                        _ => return,
                    }
                }
                unread.drain(..body);
                if self.answer(&mut conn, &request, boot).await.is_none() {
                    return;
                }
            }
            match conn.recv().await {
                Ok(chunk) if !chunk.is_empty() => unread.extend_from_slice(&chunk),
                _ => return,
            }
        }
    }

    /// `None`: the connection is over.
    async fn answer(&self, conn: &mut TwinConn, request: &Request, boot: u64) -> Option<()> {
        let came = (self.io.now_ns(), self.world.now_s(), boot);
        let lie = self.next_lie();
        let pause_ns = PAUSES_NS[self.rng.borrow_mut().below(PAUSES_NS.len() as u64) as usize];
        self.io.sleep(pause_ns).await;
        if lie == Lie::Garbage {
            conn.send(b"HTTP/9 two hundred\r\n\r\n", &[]).await.ok()?;
            return None;
        }
        if lie == Lie::Hangs {
            return wait_for_end(conn).await;
        }
        let (mut reply, at) = self.decide(request, lie, came)?;
        if request.method == "HEAD" {
            reply.part = 0..0;
        }
        conn.send(head_of(&reply, request.method == "HEAD").as_bytes(), &[]).await.ok()?;
        let length = reply.part.end - reply.part.start;
        let broken = matches!(lie, Lie::ShortBody | Lie::BreaksOff | Lie::HangsInBody) && length > 0;
        let until = match lie {
            _ if broken => reply.part.start + length / 2,
            Lie::Forges if length > 0 => reply.part.end - 1,
            _ => reply.part.end,
        };
        self.send(conn, &reply, until, (at, pause_ns)).await?;
        match lie {
            Lie::BreaksOff if broken => {
                conn.reset();
                return None;
            }
            Lie::HangsInBody if broken => return wait_for_end(conn).await,
            Lie::ShortBody if broken => return None,
            Lie::Forges => {
                self.world.log.borrow_mut()[at].sent.end = reply.part.end;
                let last = &reply.body[until as usize..reply.part.end as usize];
                // Nothing else is on its way then: both arrive at once.
                self.io.sleep(FORGES_AFTER_NS).await;
                conn.send(&[last, FORGED.as_bytes()].concat(), &[]).await.ok()?;
            }
            Lie::LongBody => conn.send(b"more than there is", &[]).await.ok()?,
            _ => {}
        }
        (reply.framing != Framing::UntilClose).then_some(())
    }

    async fn send(
        &self,
        conn: &mut TwinConn,
        reply: &Reply,
        until: u64,
        (logged, pause_ns): (usize, u64),
    ) -> Option<()> {
        let mut at = reply.part.start;
        while at < until {
            let end = until.min(at + PIECE_BYTES as u64);
            self.io.sleep(pause_ns).await;
            self.world.log.borrow_mut()[logged].sent.end = end;
            let piece = &reply.body[at as usize..end as usize];
            if reply.framing == Framing::Chunked {
                conn.send(format!("{:x}\r\n", piece.len()).as_bytes(), &[]).await.ok()?;
                conn.send(piece, b"\r\n").await.ok()?;
            } else {
                conn.send(piece, &[]).await.ok()?;
            }
            at = end;
        }
        if reply.framing == Framing::Chunked && until == reply.part.end {
            conn.send(b"0\r\n\r\n", &[]).await.ok()?;
        }
        Some(())
    }

    fn next_lie(&self) -> Lie {
        let mut script = self.world.script.borrow_mut();
        let rng = &mut *self.rng.borrow_mut();
        let lie = match script.is_empty() {
            false => script.remove(0),
            true if rng.chance(self.world.lies_ppm.get()) => LIES[rng.below(LIES.len() as u64) as usize],
            true => return Lie::None,
        };
        if let Some(at) = LIES.iter().position(|other| *other == lie) {
            self.world.seen.borrow_mut().lies[at] += 1;
        }
        lie
    }

    /// What to answer, and where that is written down.
    fn decide(
        &self,
        request: &Request,
        lie: Lie,
        (at_ns, at_s, boot): (u64, u64, u64),
    ) -> Option<(Reply, usize)> {
        let mut objects = self.world.objects.borrow_mut();
        let object = objects.iter_mut().find(|object| object.path() == request.path)?;
        let rng = &mut *self.rng.borrow_mut();
        let is_post = request.method == "POST" && lie != Lie::Fails;
        if is_post || matches!(lie, Lie::Changes | Lie::ChangesAndIgnores) {
            self.world.seen.borrow_mut().versions += 1;
            object.change(self.world.slice_bytes, rng);
        }
        let variant = object.variant(request.field("accept"));
        let mut reply = reply(object, variant, request, lie, rng);
        if object.kind.varies {
            reply.fields.push(("X-Variant", variant.to_string()));
            reply.fields.push(("Vary", "Accept".to_owned()));
        }
        reply.fields.push(("Surrogate-Key", format!("{} everything", object.group())));
        reply.fields.push(("Date", date(self.world.now_s())));
        let control = if lie == Lie::NoStore { Some("no-store") } else { object.kind.control };
        reply.fields.extend(control.map(|control| ("Cache-Control", control.to_owned())));
        let logged = Logged {
            at_ns,
            at_s,
            boot,
            object: object.number,
            variant,
            is_passed: request.field(CLIENTS_FIELD).is_some(),
            status: reply.status,
            lie,
            vouched: reply.vouched,
            version: reply.version,
            sent: reply.part.start..reply.part.start,
            meant: reply.part.clone(),
        };
        let mut log = self.world.log.borrow_mut();
        log.push(logged);
        Some((reply, log.len() - 1))
    }
}

/// Says nothing more, until the other side has had enough.
async fn wait_for_end(conn: &mut TwinConn) -> Option<()> {
    while conn.recv().await.ok().is_some_and(|chunk| !chunk.is_empty()) {}
    None
}
