//! A byte changed on disk: no reader that the daemon serves gets it, whatever he reads by; where the kernel reads the file by
//! itself, the scrubber finds it.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tests::content::{self, Digest};
use tests::disk;
use tests::exposition::Exposition;
use tests::fuse::{self, MountPoint, Mounted};
use tests::http::Request;
use tests::node::{Node, Setup};

use super::text;

/// Packed small, packed large, a file within a buffer, a file of many blocks.
const SIZES: [usize; 4] = [500, 60_000, 300_000, 6_000_000];
/// From this size on `--mount` may hand the file to the kernel.
const PASSTHROUGH_MIN_BYTES: usize = 64 << 10;
const SCRUB_DEADLINE: Duration = Duration::from_secs(30);

/// Two blobs of each size and their twins; the first of each will be damaged.
struct Blobs(Vec<(Digest, PathBuf, usize)>);

impl Blobs {
    fn put(node: &Node) -> Self {
        let one = |seed: usize| {
            let size = SIZES[seed / 2];
            let body = content::bytes(seed as u64, size);
            let twin = node.setup.path(&format!("twin{seed}"));
            fs::write(&twin, &body).expect("written");
            (node.client().put(&body), twin, size)
        };
        Self((0..2 * SIZES.len()).map(one).collect())
    }

    fn body(at: usize) -> Vec<u8> {
        content::bytes(at as u64, SIZES[at / 2])
    }

    /// Changes a byte in the middle of the first of each size that `wanted` accepts.
    fn damage(node: &Node, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        let chosen: Vec<usize> = (0..2 * SIZES.len()).step_by(2).filter(|at| wanted(SIZES[at / 2])).collect();
        for &at in &chosen {
            let (body, middle) = (Self::body(at), SIZES[at / 2] / 2);
            let places = disk::find(&node.setup.data, &body[middle..middle + 64]);
            assert!(!places.is_empty(), "{} bytes are not on disk as they are", body.len());
            places.iter().for_each(disk::Place::flip);
        }
        chosen
    }

    /// What a reader finds: right, or an error. Wrong bytes fail the test.
    fn verdicts(&self, point: &MountPoint, wanted: impl Fn(usize) -> bool) -> Vec<(usize, bool)> {
        let chosen: Vec<usize> = (0..self.0.len()).filter(|&at| wanted(self.0[at].2)).collect();
        let pair = |&at: &usize| format!("{}={}", text(&point.blob(&self.0[at].0)), text(&self.0[at].1));
        let pairs: Vec<String> = chosen.iter().map(pair).collect();
        let pairs: Vec<&str> = pairs.iter().map(String::as_str).collect();
        let said = fuse::must_hold(include_str!("verdict.py"), &pairs);
        chosen.into_iter().zip(said.lines().map(|line| line == "right")).collect()
    }
}

fn must_never_show_damage(rung: &str) {
    let setup = Setup::new().arg("--scrub-rate").arg("0");
    let Some(mut mounted) = Mounted::start_as(setup, rung) else { return };
    let blobs = Blobs::put(&mounted.node);
    mounted.node.stop();
    let damaged = Blobs::damage(&mounted.node, |_| true);
    let mounted = mounted.start_again("TERM");
    let must_be = |is_mended: bool| {
        // Every size on the mount that hands no file to the kernel, packed ones on the other too.
        let by_ro = blobs.verdicts(&mounted.ro, |_| true);
        let by_rw = blobs.verdicts(&mounted.rw, |size| size < PASSTHROUGH_MIN_BYTES);
        for (at, is_right) in by_ro.into_iter().chain(by_rw) {
            let expected = is_mended || !damaged.contains(&at);
            assert_eq!(is_right, expected, "{rung}: {} bytes, mended: {is_mended}", SIZES[at / 2]);
        }
    };
    must_be(false);
    must_be(false);
    let log = mounted.node.stderr();
    for &at in &damaged {
        assert!(
            log.contains(fuse::name_of(&blobs.0[at].0)),
            "{rung}: the damage is not logged by digest: {log}"
        );
    }
    damaged.iter().for_each(|&at| drop(mounted.node.client().put(&Blobs::body(at))));
    must_be(true);
}

#[test]
fn damage_never_reaches_a_reader_by_default() {
    must_never_show_damage("auto");
}

#[test]
fn damage_never_reaches_a_reader_by_uring() {
    must_never_show_damage("uring");
}

#[test]
fn damage_never_reaches_a_reader_by_cloned_descriptors() {
    must_never_show_damage("clone");
}

#[test]
fn damage_never_reaches_a_reader_by_a_thread() {
    must_never_show_damage("thread");
}

/// What was verified and then changed comes neither from RAM nor from the page cache when that is asked for.
#[test]
fn strict_shows_nothing_that_changed_after_it_was_verified() {
    let setup = Setup::new().arg("--scrub-rate").arg("0").arg("--verify").arg("strict");
    let Some(mounted) = Mounted::start_as(setup, "auto") else { return };
    let blobs = Blobs::put(&mounted.node);
    let before = blobs.verdicts(&mounted.ro, |_| true);
    assert!(before.iter().all(|(_, is_right)| *is_right));
    let damaged = Blobs::damage(&mounted.node, |_| true);
    for (at, is_right) in blobs.verdicts(&mounted.ro, |_| true) {
        assert!(is_right || damaged.contains(&at), "an undamaged blob of {} bytes", SIZES[at / 2]);
    }
}

fn found(node: &Node) -> f64 {
    let reply = node.ops().call(&Request::new("GET", "/metrics")).must_be(200);
    let scrape = Exposition::parse(reply.text()).unwrap_or_else(|why| panic!("{why}"));
    scrape.sum("blobcache_damaged_total", |_| true)
}

#[test]
fn damage_under_passthrough_is_found_by_the_scrubber_and_the_next_open_refused() {
    let setup = Setup::new().arg("--scrub-rate").arg("1GiB").arg("--scrub-rest").arg("1s");
    let Some(mounted) = Mounted::start_as(setup, "passthrough") else { return };
    let blobs = Blobs::put(&mounted.node);
    let is_passed_through = |size| size >= PASSTHROUGH_MIN_BYTES;
    assert!(blobs.verdicts(&mounted.rw, |_| true).iter().all(|(_, is_right)| *is_right));
    let damaged = Blobs::damage(&mounted.node, is_passed_through);
    let begin = Instant::now();
    while found(&mounted.node) < damaged.len() as f64 {
        assert!(begin.elapsed() < SCRUB_DEADLINE, "the scrubber finds no damage: {}", mounted.node.stderr());
        thread::sleep(Duration::from_millis(50));
    }
    for (at, is_right) in blobs.verdicts(&mounted.rw, is_passed_through) {
        assert_eq!(is_right, !damaged.contains(&at), "{} bytes", SIZES[at / 2]);
    }
}
