//! A full disk: 507, nothing acknowledged lost, and room again after DELETE.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::blobs::Client;
use tests::content::{self, Digest, Rng};
use tests::disk;
use tests::http::Request;
use tests::mount::LoopMount;
use tests::node::{Node, Setup};

/// Puts blobs of mixed sizes until the first 507, and gives the seeds and sizes of those stored.
fn fill_up(client: &mut Client, first_seed: u64, sizes: (u64, u64)) -> Vec<(u64, usize)> {
    let mut rng = Rng::new(first_seed);
    let mut stored = Vec::new();
    for seed in first_seed..first_seed + 200_000 {
        let size = rng.size(sizes.0, sizes.1);
        let body = content::bytes(seed, size);
        let reply = client.call(&Request::new("PUT", "/blobs").body(&body));
        match reply.status {
            201 => stored.push((seed, size)),
            507 => return stored,
            other => panic!("{other} for a PUT of {size} bytes: {}", reply.text()),
        }
    }
    panic!("never full");
}

fn must_hold(client: &mut Client, stored: &[(u64, usize)]) {
    for &(seed, size) in stored {
        let body = content::bytes(seed, size);
        assert!(client.get(&Digest::of(&body)) == body, "seed {seed}, {size} bytes");
    }
}

/// Fills the node, restarts it, frees half, fills it again. All that was acknowledged must hold.
fn must_fill_and_free(node: Node, sizes: (u64, u64), least_bytes: usize) {
    let mut client = node.client();
    let mut stored = fill_up(&mut client, 1000, sizes);
    let total: usize = stored.iter().map(|(_, size)| size).sum();
    assert!(total >= least_bytes, "full after {total} bytes");
    must_hold(&mut client, &stored);
    assert_eq!(client.list().len(), stored.len(), "what got 507 is not listed");

    let mut node = node;
    node.kill();
    let mut node = node.start_again();
    let mut client = node.client();
    must_hold(&mut client, &stored);

    let gone = stored.split_off(stored.len() / 2);
    for (seed, size) in gone {
        assert_eq!(client.delete(&Digest::of(&content::bytes(seed, size))), 204);
    }
    let more = fill_up(&mut client, 900_000, sizes);
    let again: usize = more.iter().map(|(_, size)| size).sum();
    assert!(again >= least_bytes / 4, "after DELETE of half only {again} bytes fit");
    stored.extend(more);
    node.stop();
    let node = node.start_again();
    must_hold(&mut node.client(), &stored);
    assert_eq!(node.client().list().len(), stored.len());
}

#[test]
fn a_full_quota_is_507_until_something_is_deleted() {
    let node = Setup::new().arg("--disk-quota=64MiB").start();
    must_fill_and_free(node, (100_000, 4 << 20), 32 << 20);
}

/// A disk half full takes any number of replacements: what is deleted here and there comes back as room.
#[test]
fn small_blobs_replaced_at_random_find_room() {
    const CLIENTS: u64 = 8;
    let mut node = Setup::new().arg("--disk-quota=64MiB").start();
    let clients = (0..CLIENTS).map(|number| {
        let mut client = node.client();
        std::thread::spawn(move || {
            let mut rng = Rng::new(number);
            let mut next = number;
            let mut put = |rng: &mut Rng, client: &mut Client| {
                next += CLIENTS;
                let body = content::bytes(next, rng.size(10_000, 60_000));
                let replied = client.call(&Request::new("PUT", "/blobs").body(&body));
                assert_eq!(replied.status, 201, "blob {next}: {}", replied.text());
                Digest::of(&body)
            };
            let mut stored: Vec<Digest> = (0..100).map(|_| put(&mut rng, &mut client)).collect();
            for _ in 0..600 {
                let at = rng.size(0, 99);
                assert_eq!(client.delete(&stored[at]), 204);
                stored[at] = put(&mut rng, &mut client);
            }
            for digest in stored {
                assert!(Digest::of(&client.get(&digest)) == digest, "another content");
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().for_each(|client| client.join().expect("every PUT found room"));
    node.stop();
}

#[test]
fn a_quota_full_of_small_blobs_is_507_until_something_is_deleted() {
    let node = Setup::new().arg("--disk-quota=64MiB").start();
    must_fill_and_free(node, (10_000, 60_000), 24 << 20);
}

#[test]
fn a_quota_is_never_passed() {
    const QUOTA_BYTES: u64 = 64 << 20;
    let node = Setup::new().arg("--disk-quota=64MiB").start();
    let stored = fill_up(&mut node.client(), 5000, (1 << 20, 3 << 20));
    let total: usize = stored.iter().map(|(_, size)| size).sum();
    assert!(total as u64 <= QUOTA_BYTES, "{total} bytes stored");
    let listed: u64 = node.client().list().values().sum();
    assert!(listed <= QUOTA_BYTES, "{listed} bytes listed");
}

/// Small blobs by many clients until each meets a 507; those that are stored.
fn fill_up_by_many(node: &Node, first: u64) -> Vec<Digest> {
    let clients = (0..CLIENTS).map(|number| {
        let mut client = node.client();
        std::thread::spawn(move || {
            let stored = fill_up(&mut client, first + number * 1_000_000, (20, 600));
            stored.into_iter().map(|(seed, size)| Digest::of(&content::bytes(seed, size))).collect::<Vec<_>>()
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().flat_map(|client| client.join().expect("filled up")).collect()
}

const CLIENTS: u64 = 8;

/// Not while it fills up with so small blobs that most of the disk is index, not while they go, not across a kill. What the files
/// take is looked at as the file system has it, all the time.
#[test]
fn all_files_together_never_pass_the_quota() {
    const QUOTA_BYTES: u64 = 24 << 20;
    let mut node = Setup::new().arg("--disk-quota=24MiB").start();
    let (data, is_over) = (node.setup.data.clone(), Arc::new(AtomicBool::new(false)));
    let ends = is_over.clone();
    let look = std::thread::spawn(move || {
        let mut most = 0;
        while !ends.load(Ordering::Relaxed) {
            most = most.max(disk::used_bytes(&data));
            std::thread::sleep(Duration::from_millis(2));
        }
        most
    });
    for round in 1..=2 {
        let stored = fill_up_by_many(&node, round * 100_000_000);
        assert!(stored.len() > 10_000, "full after {} in round {round}", stored.len());
        if round == 1 {
            node.kill();
            node = node.start_again();
        }
        std::thread::scope(|scope| {
            for part in stored.chunks(stored.len().div_ceil(CLIENTS as usize)) {
                let mut client = node.client();
                scope.spawn(move || {
                    for digest in part {
                        assert_eq!(client.delete(digest), 204, "in round {round}");
                    }
                });
            }
        });
    }
    is_over.store(true, Ordering::Relaxed);
    let most = look.join().expect("looked");
    println!("at most {most} of {QUOTA_BYTES} bytes");
    assert!(most > QUOTA_BYTES / 2 && most <= QUOTA_BYTES, "{most} of {QUOTA_BYTES} bytes");
}

#[test]
fn a_blob_larger_than_the_quota_is_507_however_it_comes() {
    let node = Setup::new().arg("--disk-quota=64MiB").start();
    let kept = node.client().put(&content::bytes(1, 1 << 20));
    let body = content::bytes(2, 80 << 20);
    let digest = Digest::of(&body);
    let chunked = tests::http::chunked(&body, 1 << 20);
    for target in ["/blobs".to_owned(), digest.path()] {
        let reply = node.client().call(&Request::new("PUT", target.as_str()).body(&body));
        reply.must_be(507);
        let mut conn = node.conn();
        let head = Request::new("PUT", target.as_str()).header("Transfer-Encoding", "chunked");
        conn.send(&head.to_bytes()).expect("sent");
        conn.send(&chunked).ok();
        assert_eq!(conn.receive("PUT").expect("a reply").status, 507);
    }
    let mut client = node.client();
    assert!(!client.has(&digest));
    client.get(&kept);
    // What those uploads took has been given back.
    client.put(&content::bytes(3, 30 << 20));
}

#[test]
fn deleting_all_gives_the_space_back_to_the_file_system() {
    let node = Setup::new().start();
    let mut client = node.client();
    client.put(&content::bytes(1, 100));
    let before = disk::used_bytes(&node.setup.data);
    let digests: Vec<_> = (0..10).map(|seed| client.put(&content::bytes(seed, 8 << 20))).collect();
    for digest in digests {
        assert_eq!(client.delete(&digest), 204);
    }
    let begin = std::time::Instant::now();
    loop {
        let used = disk::used_bytes(&node.setup.data);
        if used <= before + (16 << 20) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "{before} bytes grew to {used}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn must_survive_a_full_file_system(sizes: (u64, u64), least_bytes: usize) {
    let setup = Setup::new();
    let Some(mounted) = LoopMount::or_skip(&setup, 64 << 20) else { return };
    // A quota above what there is: the file system itself says no.
    let setup = setup.data(mounted.at.join("data")).arg("--disk-quota=10GiB");
    let node = setup.start();
    fill_up(&mut node.client(), 70_000, (1 << 20, 2 << 20));
    assert!(mounted.free_bytes() > FLOOR_BYTES - INDEX_BYTES_MAX, "the floor is kept");
    for digest in node.client().list().keys() {
        assert_eq!(node.client().delete(digest), 204);
    }
    must_fill_and_free(node, sizes, least_bytes);
}

/// What stays free by itself of a small file system, and how much of it index and checkpoints take.
const FLOOR_BYTES: u64 = 16 << 20;
const INDEX_BYTES_MAX: u64 = 6 << 20;

#[test]
fn a_full_file_system_is_507_until_something_is_deleted() {
    must_survive_a_full_file_system((70_000, 2 << 20), 8 << 20);
}

#[test]
fn a_file_system_full_of_small_blobs_is_507_until_something_is_deleted() {
    must_survive_a_full_file_system((10_000, 60_000), 4 << 20);
}
