//! Connections.

use super::Place;
use runtime::io::{Conn, Hangup, Io, Listener};
use std::future::Future;
use std::io::ErrorKind;
use std::rc::Rc;

async fn pair<I: Io>(place: &Place<I>) -> (I::Conn, I::Conn) {
    let mut listener = place.io.listen(place.addr).expect("listens");
    assert_eq!(listener.local_addr().expect("bound"), place.addr);
    let near = place.io.connect(place.addr).await.expect("connects");
    (near, listener.accept().await.expect("accepts"))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

async fn receive_all<C: Conn>(conn: &mut C) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let chunk = conn.recv().await.expect("received");
        if chunk.as_ref().is_empty() {
            return all;
        }
        all.extend_from_slice(chunk.as_ref());
    }
}

pub async fn bytes_arrive_in_order_and_end<I: Io>(place: Rc<Place<I>>) {
    let (mut near, mut far) = pair(&place).await;
    let sent = pattern(3_000_000);
    let body = sent.clone();
    place.io.spawn("sender", async move {
        near.send(&body[..10], &body[10..1_500_000]).await.expect("sent");
        near.send(&[], &body[1_500_000..]).await.expect("sent");
        near.send(&[], &[]).await.expect("nothing is sent at once");
    });
    assert!(receive_all(&mut far).await == sent, "bytes were lost, moved or changed");
    assert!(far.recv().await.expect("still the end").as_ref().is_empty());
}

pub async fn receiving_into_a_buffer_mixes_with_chunks<I: Io>(place: Rc<Place<I>>) {
    let (mut near, mut far) = pair(&place).await;
    let sent = pattern(100_000);
    let body = sent.clone();
    place.io.spawn("sender", async move { near.send(&[], &body).await.expect("sent") });
    let mut all = far.recv().await.expect("received").as_ref().to_vec();
    let mut buf = place.io.buffer(64 << 10).expect("memory");
    for _ in 0..2 {
        let (count, back) = far.recv_into(buf, 100, 20_100).await;
        assert_eq!(count.expect("received"), 20_000, "filled while bytes come");
        all.extend_from_slice(&back[100..20_100]);
        buf = back;
    }
    all.extend_from_slice(far.recv().await.expect("received").as_ref());
    loop {
        let (count, back) = far.recv_into(buf, 0, 30_000).await;
        let count = count.expect("received");
        all.extend_from_slice(&back[..count]);
        buf = back;
        if count < 30_000 {
            break;
        }
    }
    assert!(all == sent, "bytes were lost, moved or changed");
}

pub async fn one_way_can_end_before_the_other<I: Io>(place: Rc<Place<I>>) {
    let (mut near, mut far) = pair(&place).await;
    near.send(b"question", &[]).await.expect("sent");
    near.end_sending();
    assert_eq!(receive_all(&mut far).await, b"question");
    far.send(b"ans", b"wer").await.expect("the other way is open");
    drop(far);
    assert_eq!(receive_all(&mut near).await, b"answer");
}

/// Who stops waiting for bytes and comes back later has all of them, in order.
pub async fn a_dropped_receive_loses_nothing<I: Io>(place: Rc<Place<I>>) {
    let (mut near, mut far) = pair(&place).await;
    let sent = pattern(300_000);
    let body = sent.clone();
    let io = place.io.clone();
    place.io.spawn("sender", async move {
        for part in body.chunks(10_000) {
            near.send(part, &[]).await.expect("sent");
            io.sleep(1_000_000).await;
        }
    });
    let mut all = Vec::new();
    loop {
        {
            let mut receive = Box::pin(far.recv());
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(receive.as_mut().poll(cx))).await;
            if let std::task::Poll::Ready(chunk) = polled {
                let chunk = chunk.expect("received");
                if chunk.as_ref().is_empty() {
                    break;
                }
                all.extend_from_slice(chunk.as_ref());
                continue;
            }
        }
        place.io.sleep(300_000).await;
    }
    assert!(all == sent, "bytes were lost, moved or changed");
}

/// The end of one way is heard when all before it was, however much that is, and the other way goes on.
pub async fn an_end_comes_behind_all_that_was_sent<I: Io>(place: Rc<Place<I>>) {
    let (mut near, mut far) = pair(&place).await;
    let sent = pattern(2_000_000);
    let body = sent.clone();
    place.io.spawn("sender", async move {
        near.send(&[], &body).await.expect("sent");
        near.end_sending();
        assert_eq!(receive_all(&mut near).await, pattern(1_000_000));
    });
    assert!(receive_all(&mut far).await == sent, "bytes were lost, moved or changed");
    far.send(&[], &pattern(1_000_000)).await.expect("the other way is open");
    far.end_sending();
}

/// A peer that is gone without a word ends what is being sent to it.
pub async fn a_peer_that_resets_ends_a_send<I: Io>(place: Rc<Place<I>>) {
    let (mut near, far) = pair(&place).await;
    near.send(b"unread", &[]).await.expect("sent");
    let io = place.io.clone();
    place.io.spawn("leaver", async move {
        io.sleep(50_000_000).await;
        drop(far);
    });
    let sent = near.send(&[], &vec![0; 64 << 20]).await;
    let kind = sent.expect_err("nobody took it").kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
    let next = near.send(b"more", &[]).await.expect_err("it stays broken").kind();
    assert!(matches!(next, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{next}");
}

pub async fn a_hangup_ends_a_receive<I: Io>(place: Rc<Place<I>>) {
    for how in [Hangup::Receive, Hangup::Both] {
        let (mut near, mut far) = pair(&place).await;
        let (hangup, io) = (far.hangup(), place.io.clone());
        place.io.spawn("sweeper", async move {
            io.sleep(5_000_000).await;
            hangup(how);
        });
        assert!(far.recv().await.expect("no error").as_ref().is_empty());
        let sent = far.send(b"late", &[]).await;
        assert_eq!(sent.is_ok(), how == Hangup::Receive, "{how:?}: {sent:?}");
        drop(far);
        let last = receive_all(&mut near).await;
        assert_eq!(last, if how == Hangup::Receive { &b"late"[..] } else { b"" });
    }
}

pub async fn a_hangup_ends_a_send<I: Io>(place: Rc<Place<I>>) {
    let (_near, mut far) = pair(&place).await;
    let (hangup, io) = (far.hangup(), place.io.clone());
    place.io.spawn("sweeper", async move {
        io.sleep(50_000_000).await;
        hangup(Hangup::Both);
    });
    // Nobody receives it, and no socket buffer is that large.
    let sent = far.send(&[], &vec![0; 64 << 20]).await;
    assert_eq!(sent.expect_err("hung up on").kind(), ErrorKind::BrokenPipe);
}

/// Sends `bytes`, and waits until they are there.
async fn bring<I: Io>(place: &Place<I>, near: &mut I::Conn, bytes: &[u8]) {
    near.send(bytes, &[]).await.expect("sent");
    place.io.sleep(20_000_000).await;
}

pub async fn it_is_seen_whether_anything_came<I: Io>(place: Rc<Place<I>>) {
    for receives_by_itself in [false, true] {
        let (mut near, mut far) = pair(&place).await;
        assert!(far.is_quiet(), "nothing was sent");
        bring(&place, &mut near, b"first").await;
        assert!(!far.is_quiet() && !far.is_quiet(), "looking takes nothing");
        if receives_by_itself {
            let mut got = Vec::new();
            while got.len() < 5 {
                got.extend_from_slice(far.recv().await.expect("received").as_ref());
            }
        } else {
            let buf = place.io.buffer(5).expect("memory");
            assert_eq!(far.recv_into(buf, 0, 5).await.0.expect("received"), 5);
        }
        assert!(far.is_quiet(), "all was taken");
        bring(&place, &mut near, b"second").await;
        assert!(!far.is_quiet(), "something came");
        // A part of it: the rest may be in memory by now.
        let buf = place.io.buffer(6).expect("memory");
        let (count, buf) = far.recv_into(buf, 0, 2).await;
        assert!(count.expect("received") == 2 && !far.is_quiet(), "more was sent");
        let (count, _) = far.recv_into(buf, 0, 4).await;
        assert!(count.expect("received") == 4 && far.is_quiet(), "and nothing behind it");
        drop(near);
        place.io.sleep(20_000_000).await;
        assert!(!far.is_quiet(), "the peer is gone");
    }
    let (_near, mut far) = pair(&place).await;
    far.hangup()(Hangup::Both);
    assert!(!far.is_quiet(), "hung up on");
}

pub async fn who_leaves_bytes_unread_resets<I: Io>(place: Rc<Place<I>>) {
    let (mut near, mut far) = pair(&place).await;
    near.send(b"unread", &[]).await.expect("sent");
    far.send(b"read", &[]).await.expect("sent");
    // Both have arrived.
    place.io.sleep(20_000_000).await;
    let hangup = far.hangup();
    drop(far);
    hangup(Hangup::Both);
    let (mut all, mut outcome) = (Vec::new(), None);
    while outcome.is_none() {
        match near.recv().await {
            Ok(chunk) if chunk.as_ref().is_empty() => outcome = Some(Ok(())),
            Ok(chunk) => all.extend_from_slice(chunk.as_ref()),
            Err(e) => outcome = Some(Err(e.kind())),
        }
    }
    assert!(b"read".starts_with(&all[..]), "{all:?}");
    assert!(near.send(b"more", &[]).await.is_err() || near.send(b"more", &[]).await.is_err());
    // Linux sends the end first or the reset first, as the close meets the shutdown.
    assert!(matches!(outcome, Some(Ok(()) | Err(ErrorKind::ConnectionReset))), "{outcome:?}");
}

pub async fn nobody_listens_is_refused<I: Io>(place: Rc<Place<I>>) {
    let refused = place.io.connect(place.addr).await.map(|_| ()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(place.io.listen(place.addr).expect("listens"));
    let found = place.io.resolve("127.0.0.1", 80).await.expect("an address is its own name");
    assert_eq!(found, ["127.0.0.1:80".parse().expect("an address")]);
}
