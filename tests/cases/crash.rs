//! kill -9 under load: what was acknowledged is whole afterwards, what was not is whole or absent,
//! an acknowledged DELETE holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tests::blobs::{Client, must_acknowledge};
use tests::content::{self, Digest, Rng};
use tests::http::Request;
use tests::node::Setup;
use tests::scale;

const CONNECTIONS: u64 = 8;
/// Kills, unless `BASALT_KILLS` says otherwise.
const KILLS: u64 = 6;
const LOAD_DEADLINE: Duration = Duration::from_secs(30);

/// What the client side knows of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// A PUT or DELETE was sent and not answered.
    Open,
    /// 201 came.
    Stored,
    /// 204 came.
    Deleted,
}

#[derive(Clone, Copy, Debug)]
struct Blob {
    size_bytes: usize,
    known: Known,
}

type Blobs = BTreeMap<Digest, Blob>;

/// Puts and deletes over one connection until the server is gone. Seeds are never used twice.
fn load(addr: SocketAddr, mut rng: Rng, next_seed: &AtomicU64, acknowledged: &AtomicU64) -> Blobs {
    let mut client = Client::new(addr);
    let mut blobs = Blobs::new();
    let mut stored = Vec::new();
    loop {
        let size_bytes = rng.size(13, 3 << 20);
        let seed = next_seed.fetch_add(1, Ordering::Relaxed);
        let body = content::bytes(seed, size_bytes);
        let digest = Digest::of(&body);
        let known = Known::Open;
        blobs.insert(digest.clone(), Blob { size_bytes, known });
        let target = if rng.one_in(2) { "/blobs".to_owned() } else { digest.path() };
        let Ok(reply) = client.try_call(&Request::new("PUT", target).body(&body)) else {
            return blobs;
        };
        must_acknowledge(&reply, &digest, size_bytes as u64);
        blobs.get_mut(&digest).expect("inserted").known = Known::Stored;
        acknowledged.fetch_add(1, Ordering::Relaxed);
        stored.push(digest);
        if rng.one_in(3) {
            let digest = stored.swap_remove(rng.below(stored.len() as u64) as usize);
            let blob = blobs.get_mut(&digest).expect("stored");
            blob.known = Known::Open;
            let Ok(reply) = client.try_call(&Request::new("DELETE", digest.path())) else {
                return blobs;
            };
            assert_eq!(reply.status, 204, "DELETE of a stored blob");
            blob.known = Known::Deleted;
            acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Compares every blob with what is known of it, and the listing with what is served. What was
/// open is afterwards what it was found to be.
fn must_hold(client: &mut Client, blobs: &mut Blobs, context: &str) {
    let mut listed = client.list();
    for (digest, blob) in blobs {
        let reply = client.try_get(digest).unwrap_or_else(|fault| panic!("{digest}: {fault}"));
        let is_there = reply.status == 200;
        assert!(is_there || reply.status == 404, "{context}: {} for {blob:?}", reply.status);
        assert!(
            blob.known == Known::Open || is_there == (blob.known == Known::Stored),
            "{context}: {digest} is there: {is_there}, but {blob:?}"
        );
        if is_there {
            let size = listed.remove(digest);
            assert_eq!(size, Some(blob.size_bytes as u64), "{context}: {digest} in the listing");
        }
        blob.known = if is_there { Known::Stored } else { Known::Deleted };
    }
    assert!(listed.is_empty(), "{context}: listed, but not served: {listed:?}");
}

/// Frees most of the space between rounds, over the interface.
fn thin_out(client: &mut Client, blobs: &mut Blobs, rng: &mut Rng) {
    for (digest, blob) in blobs {
        if blob.known == Known::Stored && !rng.one_in(5) {
            assert_eq!(client.delete(digest), 204);
            blob.known = Known::Deleted;
        }
    }
}

fn must_survive_kills(cpus: impl Fn(u64) -> String) {
    let seed = content::run_seed();
    let mut rng = Rng::new(seed);
    let next_seed = AtomicU64::new(seed << 24);
    let mut blobs = Blobs::new();
    let setup = Setup::new();
    let mut node = setup.clone().cpuset(cpus(0)).start();
    for round in 1..=scale::count("BASALT_KILLS", KILLS) {
        let context = format!("BASALT_TEST_SEED={seed} round {round}");
        let acknowledged = AtomicU64::new(0);
        let done = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                let (addr, own) = (node.setup.blob, Rng::new(rng.any()));
                let (next_seed, acknowledged, done) = (&next_seed, &acknowledged, &done);
                scope.spawn(move || {
                    let blobs = load(addr, own, next_seed, acknowledged);
                    done.lock().expect("no panic").push(blobs);
                });
            }
            let begin = Instant::now();
            while acknowledged.load(Ordering::Relaxed) < 30 && begin.elapsed() < LOAD_DEADLINE {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(rng.below(700)));
            node.kill();
        });
        let count = acknowledged.into_inner();
        assert!(count >= 30, "{context}: only {count} acknowledged before the kill");
        blobs.extend(done.into_inner().expect("no panic").into_iter().flatten());
        node = node.start_as(setup.clone().cpuset(cpus(round)));
        let mut client = node.client();
        must_hold(&mut client, &mut blobs, &context);
        if round % 2 == 0 {
            thin_out(&mut client, &mut blobs, &mut rng);
        }
    }
    node.stop();
    let node = node.start_again();
    must_hold(&mut node.client(), &mut blobs, "after TERM");
}

#[test]
fn acknowledged_blobs_and_deletes_survive_kill_9_under_load() {
    must_survive_kills(|_| tests::node::cpuset(2));
}

#[test]
fn they_survive_when_the_columns_change_with_each_restart() {
    must_survive_kills(|round| tests::node::cpuset(1 + round as usize % 2));
}

#[test]
fn a_kill_while_it_recovers_loses_nothing() {
    let seed = content::run_seed();
    let mut rng = Rng::new(seed);
    let setup = Setup::new();
    let mut node = setup.start();
    let mut client = node.client();
    let bodies: Vec<_> = (0..60).map(|at| content::bytes(at, rng.size(13, 2 << 20))).collect();
    for body in &bodies {
        client.put(body);
    }
    node.kill();
    for _ in 0..8 {
        let mut child = setup.command().stderr(std::process::Stdio::null()).spawn().expect("runs");
        thread::sleep(Duration::from_millis(rng.below(120)));
        child.kill().expect("killed");
        child.wait().expect("waited");
    }
    let node = node.start_again();
    let mut client = node.client();
    for body in &bodies {
        assert!(client.get(&Digest::of(body)) == *body, "BASALT_TEST_SEED={seed}");
    }
    assert_eq!(client.list().len(), bodies.len());
}
