//! Several data directories: blobs are spread by weight, a missing one is noticed, a failing one is taken out.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::blobs::Client;
use tests::content::{self, Digest};
use tests::disk;
use tests::http::Request;
use tests::mount::LoopMount;
use tests::node::{Node, Setup};

/// Small and large ones, as `put` on any disk.
fn bodies(first: u64, count: u64) -> Vec<Vec<u8>> {
    (first..first + count)
        .map(|seed| content::bytes(seed, if seed % 3 == 0 { 200_000 } else { 9_000 }))
        .collect()
}

fn put_all(client: &mut Client, bodies: &[Vec<u8>]) {
    for body in bodies {
        client.put(body);
    }
}

fn must_hold(node: &Node, bodies: &[Vec<u8>]) {
    let mut client = node.client();
    for body in bodies {
        assert!(client.get(&Digest::of(body)) == *body);
    }
}

fn object_files(dir: &Path) -> usize {
    let names = disk::files(&dir.join("objects"));
    names.iter().filter(|path| path.extension().is_none()).count()
}

#[test]
fn blobs_are_spread_by_weight_and_a_missing_directory_is_noticed() {
    let setup = Setup::new();
    let second = setup.path("second");
    let two = setup.clone().arg("--data-dir").arg(format!("{}=3", second.display()));
    let mut node = two.start();
    let stored = bodies(1, 600);
    put_all(&mut node.client(), &stored);
    let (one, three) = (object_files(&setup.data), object_files(&second));
    assert_eq!(one + three, 200);
    assert!(three > one * 3 / 2 && one > 10, "{one} beside {three}: the second has three times the weight");
    node.stop();

    // Without the second, or with an empty directory in its place: 404 of what it holds would be a lie.
    let before = disk::snapshot(&setup.data);
    let refused = setup.run_refused();
    let said = second.to_str().expect("UTF-8");
    assert!(refused.code == 1 && refused.stderr.contains(said), "{}", refused.stderr);
    assert!(refused.stderr.contains("DISKS") && refused.stderr.contains("mounted"), "{}", refused.stderr);
    let away = setup.path("away");
    fs::rename(&second, &away).expect("moved");
    let refused = two.run_refused();
    assert!(refused.code == 1 && refused.stderr.contains(said), "{}", refused.stderr);
    assert_eq!(disk::snapshot(&setup.data), before, "nothing was touched");
    assert!(!second.exists() || disk::files(&second).is_empty(), "nor made");

    // Given twice, as a copy.
    fs::remove_dir_all(&second).ok();
    fs::rename(&away, &second).expect("back");
    let copied = std::process::Command::new("cp").arg("-r").args([&second, &away]).status().expect("cp");
    assert!(copied.success());
    let refused = two.clone().arg("--data-dir").arg(away.to_str().expect("UTF-8")).run_refused();
    assert!(refused.stderr.contains("copy"), "{}", refused.stderr);

    let mut node = two.start();
    must_hold(&node, &stored);
    node.stop();

    // Given up: its line is deleted.
    let disks = fs::read_to_string(setup.data.join("DISKS")).expect("there");
    let kept: String = disks.lines().filter(|l| !l.contains(said)).map(|l| format!("{l}\n")).collect();
    fs::write(setup.data.join("DISKS"), kept).expect("written");
    let node = setup.start();
    let mut client = node.client();
    let found = stored.iter().filter(|body| client.has(&Digest::of(body))).count();
    assert!((30..400).contains(&found), "{found} of 600 were on the first");
}

/// 503 of what was on the failed disk, the right bytes of the rest; how many of each.
fn tally(client: &mut Client, bodies: &[Vec<u8>]) -> (usize, usize) {
    let (mut right, mut out) = (0, 0);
    for body in bodies {
        let reply = client.call(&Request::new("GET", Digest::of(body).path().as_str()));
        match reply.status {
            200 if reply.body == *body => right += 1,
            503 => out += 1,
            other => panic!("{other} for a stored blob: {}", reply.text()),
        }
    }
    (right, out)
}

#[test]
fn a_disk_that_fails_is_taken_out_and_the_node_goes_on() {
    let setup = Setup::new();
    let Some(mounted) = LoopMount::or_skip(&setup, 256 << 20) else { return };
    let second = mounted.at.join("data");
    let two = setup.clone().arg("--data-dir").arg(second.to_str().expect("UTF-8"));
    let node = two.start();
    let stored = bodies(1, 300);
    let mut client = node.client();
    put_all(&mut client, &stored);
    assert_eq!(tally(&mut client, &stored), (300, 0));
    mounted.fail();
    // The first puts that meet it may fail; soon all go elsewhere.
    let more = bodies(10_000, 300);
    let begin = Instant::now();
    let mut refused = 0;
    for body in &more {
        while client.call(&Request::new("PUT", "/blobs").body(body)).status != 201 {
            refused += 1;
            assert!(begin.elapsed() < Duration::from_secs(60), "still refused after {refused} tries");
        }
    }
    assert_eq!(tally(&mut client, &more), (300, 0), "what is acknowledged now is on the disk that works");
    let (right, out) = tally(&mut client, &stored);
    // What is in RAM is served yet.
    assert!(right > 50 && out > 10, "{right} right, {out} out");
    // Stored anew, they are there again.
    put_all(&mut client, &stored);
    assert_eq!(tally(&mut client, &stored), (300, 0));
}
