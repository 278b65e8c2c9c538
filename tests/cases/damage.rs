//! Bytes that change on disk: never served as if they were right, and mended by PUT.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tests::blobs::Client;
use tests::content::{self, Digest, Rng};
use tests::disk::{self, Place};
use tests::http::{Fault, Reply, Request};
use tests::node::{Node, Setup};

/// Packed small, packed large, a file within a buffer, a file of many blocks.
const SIZES: [usize; 4] = [500, 60_000, 300_000, 6_000_000];

/// Shorter than a node waits for requests that nobody answers.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// A node with blobs of all sizes, three of each: the first will be damaged.
fn stored() -> (Node, Vec<Vec<u8>>) {
    let node = Setup::new().start();
    let bodies: Vec<_> =
        (0..SIZES.len() * 3).map(|at| content::bytes(at as u64, SIZES[at / 3] + at % 3)).collect();
    let mut client = node.client();
    for body in &bodies {
        client.put(body);
    }
    (node, bodies)
}

/// Where the middle of `body` lies on disk.
fn middle_on_disk(data: &Path, body: &[u8]) -> Vec<Place> {
    let middle = body.len() / 2;
    let places = disk::find(data, &body[middle..middle + 64]);
    assert!(!places.is_empty(), "{} bytes are not on disk as they are", body.len());
    places
}

/// Panics if a reply to a GET says that it is the blob and is not: `try_get` compares the bytes.
fn must_not_be_wrong(outcome: &Result<Reply, Fault>) {
    match outcome {
        Ok(reply) => assert!([200, 404, 500, 503].contains(&reply.status), "{}", reply.status),
        Err(Fault::Closed | Fault::Cut) => {}
        Err(fault) => panic!("{fault}"),
    }
}

fn must_all_be_right<'a>(client: &mut Client, bodies: impl Iterator<Item = &'a Vec<u8>>) {
    for body in bodies {
        assert!(client.get(&Digest::of(body)) == *body, "{} bytes", body.len());
    }
}

/// Damages the first blob of each size; what happens then must hold.
fn must_survive(damage: impl Fn(&Place), hits_all_of_file: bool) {
    let (mut node, bodies) = stored();
    node.stop();
    let damaged: Vec<_> = bodies.iter().step_by(3).collect();
    let damaged = &damaged[if hits_all_of_file { 2 } else { 0 }..];
    for body in damaged {
        for place in middle_on_disk(&node.setup.data, body) {
            damage(&place);
        }
    }
    let node = node.start_again();
    let mut client = node.client();
    for body in damaged {
        let digest = Digest::of(body);
        let first = client.try_get(&digest);
        must_not_be_wrong(&first);
        assert!(!first.is_ok_and(|reply| reply.status == 200), "{} bytes: not noticed", body.len());
        // By ranges: the damaged byte itself, and whatever lies around it.
        let middle = body.len() / 2;
        for (from, to) in [(middle, middle), (middle - 100, middle + 100), (0, middle)] {
            let request = Request::new("GET", digest.path());
            let request = request.header("Range", format!("bytes={from}-{to}"));
            if let Ok(reply) = client.try_call(&request) {
                let right = reply.status != 206 || reply.body == body[from..=to];
                assert!(right, "{} bytes: wrong bytes in a range", body.len());
            }
        }
    }
    let others = bodies.iter().filter(|body| !damaged.contains(body));
    must_all_be_right(&mut client, others);
    for body in damaged {
        client.put(body);
    }
    must_all_be_right(&mut client, bodies.iter());
    let mut node = node;
    node.stop();
    must_all_be_right(&mut node.start_again().client(), bodies.iter());
}

#[test]
fn a_changed_byte_is_noticed_and_mended_by_put() {
    must_survive(Place::flip, false);
}

#[test]
fn a_file_cut_short_is_noticed_and_mended_by_put() {
    must_survive(Place::cut, true);
}

#[test]
fn a_file_that_is_gone_is_noticed_and_mended_by_put() {
    must_survive(|place| fs::remove_file(&place.path).expect("removed"), true);
}

#[test]
fn damage_while_it_runs_is_noticed_or_not_read() {
    let (node, bodies) = stored();
    for body in bodies.iter().step_by(3) {
        for place in middle_on_disk(&node.setup.data, body) {
            place.flip();
        }
    }
    let mut client = node.client();
    for body in &bodies {
        must_not_be_wrong(&client.try_get(&Digest::of(body)));
    }
}

/// Bytes that are not zero: preallocated space says nothing.
fn used_places(data: &Path, count: usize, rng: &mut Rng) -> Vec<Place> {
    let mut used = Vec::new();
    for path in disk::files(data) {
        let bytes = fs::read(&path).expect("readable");
        let in_use: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at] != 0).collect();
        for _ in 0..count.min(in_use.len()) {
            let offset = in_use[rng.below(in_use.len() as u64) as usize] as u64;
            used.push(Place { path: path.clone(), offset });
        }
    }
    used
}

#[test]
fn a_changed_byte_anywhere_gives_the_right_bytes_or_an_error() {
    let seed = content::run_seed();
    let mut rng = Rng::new(seed);
    let setup = Setup::new();
    let mut node = setup.start();
    let bodies: Vec<_> = (0..24).map(|at| content::bytes(at, rng.size(13, 200_000))).collect();
    for body in &bodies {
        node.client().put(body);
    }
    node.stop();
    drop(node);
    let mut places = used_places(&setup.data, 12, &mut rng);
    while places.len() > 60 {
        places.swap_remove(rng.below(places.len() as u64) as usize);
    }
    let saved = setup.path("saved");
    copy_dir(&setup.data, &saved);
    for place in places {
        eprintln!("BASALT_TEST_SEED={seed}: {place:?}");
        place.flip();
        must_be_right_or_refuse(&setup, &bodies, &place);
        fs::remove_dir_all(&setup.data).expect("removed");
        copy_dir(&saved, &setup.data);
    }
}

/// Starts on a damaged directory: a clear refusal will do, a wrong byte will not, and what is
/// acknowledged afterwards must hold.
fn must_be_right_or_refuse(setup: &Setup, bodies: &[Vec<u8>], place: &Place) {
    let mut probe = setup.command();
    let log = fs::File::create(setup.path("probe")).expect("a log");
    let mut child = probe.stderr(log).stdout(std::process::Stdio::null()).spawn().expect("runs");
    if let Some(code) = wait_until_ready_or_ended(setup, &mut child) {
        return must_be_a_refusal(setup, code, place);
    }
    let mut client = Client::new(setup.blob);
    for body in bodies {
        must_not_be_wrong(&client.try_get(&Digest::of(body)));
    }
    // A column stores nothing before it has read all of its index: damage in it that no read met ends the node by then.
    let put = |body: &Vec<u8>| Client::new(setup.blob).try_call(&Request::new("PUT", "/blobs").body(body));
    if bodies.iter().map(put).any(|reply| reply.map_or(true, |reply| reply.status == 503)) {
        let status = tests::command::wait(&mut child, END_DEADLINE);
        let said = || fs::read_to_string(setup.path("probe")).expect("a log");
        let status = status.unwrap_or_else(|| panic!("{place:?}: it does not end: {}", said()));
        return must_be_a_refusal(setup, status.code().unwrap_or(-1), place);
    }
    must_mend(&mut client, bodies);
    child.kill().expect("killed");
    child.wait().expect("waited");
}

fn must_be_a_refusal(setup: &Setup, code: i32, place: &Place) {
    let said = fs::read_to_string(setup.path("probe")).expect("a log");
    assert!([1, 78].contains(&code), "{place:?}: exit {code}: {said}");
    assert!(!said.contains("panicked"), "{place:?}: {said}");
    let name = place.path.file_name().expect("a file").to_string_lossy();
    assert!(said.contains(&*name), "the refusal names the file {name}: {said}");
}

fn must_mend(client: &mut Client, bodies: &[Vec<u8>]) {
    for body in bodies {
        client.put(body);
    }
    must_all_be_right(client, bodies.iter());
}

fn wait_until_ready_or_ended(setup: &Setup, child: &mut std::process::Child) -> Option<i32> {
    for _ in 0..3000 {
        if let Some(status) = child.try_wait().expect("our child") {
            return Some(status.code().unwrap_or(-1));
        }
        let mut ops = Client::new(setup.ops);
        let reply = ops.try_call(&Request::new("GET", "/readyz").header("Connection", "close"));
        if reply.is_ok_and(|reply| reply.status == 200) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().ok();
    panic!("neither ready nor ended: {}", fs::read_to_string(setup.path("probe")).expect("a log"));
}

/// Copies files with their holes.
fn copy_dir(from: &Path, to: &Path) {
    let mut cp = std::process::Command::new("cp");
    cp.args(["-a", "--sparse=always", "-T"]).arg(from).arg(to);
    tests::command::run(&mut cp, std::time::Duration::from_secs(30)).must_succeed();
}
