//! Programs that people download and play with: resuming, many connections to one object, seeking; what they write is what the
//! origin has.

use super::{MIB, object, proxy};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tests::command::{self, Finished};
use tests::node::Node;
use tests::origin::Origin;

const DEADLINE: Duration = Duration::from_secs(60);

fn run(program: &str, args: &[&str]) -> Finished {
    command::run(Command::new(program).args(args), DEADLINE)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn url(node: &Node, path: &str) -> String {
    format!("http://{}{path}", node.setup.slice)
}

/// No slice was fetched twice.
fn must_be_asked_once(origin: &Origin, path: &str, slices: usize) {
    let asked = origin.asked(path);
    assert_eq!((asked.len(), asked.values().max()), (slices, Some(&1)), "{asked:?}");
}

#[test]
fn wget_goes_on_where_it_was_broken_off() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let whole = object(1, 5 * MIB + 4321);
    for (at, have) in [1, MIB - 1, MIB, 3 * MIB + 77, whole.body.len()].into_iter().enumerate() {
        let path = format!("/w{at}");
        origin.put(&path, whole.clone());
        for state in ["cold", "hot"] {
            let file = node.setup.path(&format!("wget-{at}-{state}"));
            fs::write(&file, &whole.body[..have]).expect("written");
            run("wget", &["-q", "-c", "-O", text(&file), &url(&node, &path)]).must_succeed();
            assert!(fs::read(&file).expect("there") == *whole.body, "from {have} on, {state}");
        }
    }
    // Of the last slice alone there was nothing to ask, or all of it.
    assert!(origin.total("/w3") <= 4, "{:?}", origin.asked("/w3"));
}

#[test]
fn aria2_fetches_by_sixteen_connections_and_goes_on_after_a_kill() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let whole = object(2, 40 * MIB + 999);
    origin.put("/a", whole.clone());
    origin.put("/b", whole.clone());
    let dir = node.setup.path("aria2");
    let url = |path: &str| url(&node, path);
    let common = ["-x16", "-s16", "-k1M", "--file-allocation=none", "-q", "-d", text(&dir)];
    for (state, name) in [("cold", "one"), ("hot", "two")] {
        run("aria2c", &[&common[..], &["-o", name, &url("/a")]].concat()).must_succeed();
        assert!(fs::read(dir.join(name)).expect("there") == *whole.body, "{state}");
    }
    must_be_asked_once(&origin, "/a", 41);

    let limited = ["--max-overall-download-limit=16M", "-o", "three"];
    let mut broken = Command::new("aria2c");
    let broken = broken.args(common).args(limited).arg(url("/b")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut broken = broken.spawn().expect("aria2c is installed");
    let begin = Instant::now();
    while fs::metadata(dir.join("three")).map_or(0, |meta| meta.len()) == 0 && begin.elapsed() < DEADLINE {
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_millis(600));
    broken.kill().expect("our child can be killed");
    broken.wait().expect("our child can be waited for");
    run("aria2c", &[&common[..], &["-c", "-o", "three", &url("/b")]].concat()).must_succeed();
    assert!(fs::read(dir.join("three")).expect("there") == *whole.body, "after a kill");
    must_be_asked_once(&origin, "/b", 41);
}

/// A picture of the time `at` seconds into a film.
fn picture(film: &str, at: &str) -> Vec<u8> {
    let to = ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let finished = run("ffmpeg", &[&["-v", "error", "-nostdin", "-ss", at, "-i", film], &to[..]].concat());
    let picture = finished.must_succeed().stdout;
    assert_eq!(picture.len(), 640 * 360 * 3, "{film} at {at}");
    picture
}

#[test]
fn ffmpeg_seeks() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let film = node.setup.path("film.mov");
    // The index stands at the end of such a file: it is looked up there, then the time.
    let source = ["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc=size=640x360:rate=25:duration=60"];
    run("ffmpeg", &[&source[..], &["-c:v", "mjpeg", "-q:v", "1", text(&film)]].concat()).must_succeed();
    let bytes = fs::read(&film).expect("made");
    let slices = bytes.len().div_ceil(MIB);
    assert!(slices > 20, "{} bytes", bytes.len());
    origin.put("/film.mov", tests::origin::Object { body: bytes.clone().into(), ..object(3, 0) });
    let url = url(&node, "/film.mov");
    let times = ["30.48", "3", "39.96", "12.2"];
    for (at, time) in times.into_iter().enumerate() {
        assert!(picture(&url, time) == picture(text(&film), time), "at {time} s");
        let asked = origin.asked("/film.mov").len();
        assert!(at > 0 || asked < slices, "a jump fetched all {asked} slices");
    }
    assert!(origin.asked("/film.mov").values().all(|&count| count == 1), "{:?}", origin.asked("/film.mov"));
    let copy = node.setup.path("copy.mov");
    run("curl", &["-sS", "--fail", "-o", text(&copy), &url]).must_succeed();
    assert!(fs::read(copy).expect("there") == bytes);
}

#[test]
fn curl_gets_ranges_resumes_and_asks_in_parallel() {
    let origin = Origin::start();
    let node = proxy(&origin).start();
    let whole = object(4, 6 * MIB + 5);
    let (body, size) = (whole.body.clone(), whole.body.len());
    origin.put("/c", whole.clone());
    let url = url(&node, "/c");
    let curl = |args: &[&str]| {
        run("curl", &[&["-sS", "--fail-with-body", "--max-time", "30"], args, &[&url]].concat())
    };
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("1048570-1048589", 1_048_570, 1_048_590),
        ("-5", size - 5, size),
        ("5000000-", 5_000_000, size),
        ("6291456-99999999", 6 * MIB, size),
    ] {
        assert!(curl(&["-r", range]).must_succeed().stdout == body[from..to], "{range}");
    }
    let several = curl(&["-r", "0-9,4000000-4000009"]).must_succeed().stdout;
    let has = |part: &[u8]| several.windows(part.len()).any(|window| window == part);
    assert!(has(&body[..10]) && has(&body[4_000_000..4_000_010]), "{}", String::from_utf8_lossy(&several));
    let status = ["-o", "/dev/null", "-w", "%{http_code} %header{content-range}"];
    let beyond = run("curl", &[&["-sS", "-r", "7000000-"][..], &status, &[&url]].concat());
    assert_eq!(beyond.must_succeed().text(), format!("416 bytes */{size}"));

    let file = node.setup.path("resumed");
    fs::write(&file, &body[..2 * MIB + 1]).expect("written");
    curl(&["-C", "-", "-o", text(&file)]).must_succeed();
    assert!(fs::read(&file).expect("there") == *body);
    assert!(curl(&["--compressed"]).must_succeed().stdout == *body);
    let dir = node.setup.path("parallel");
    fs::create_dir_all(&dir).expect("made");
    for at in 0..8 {
        origin.put(&format!("/p{at}"), object(10 + at, 2 * MIB + at as usize));
    }
    let urls = format!("http://{}/p[0-7]", node.setup.slice);
    let names = format!("{}/#1", text(&dir));
    run("curl", &["-sS", "--fail", "-Z", "-o", &names, &urls]).must_succeed();
    for at in 0..8 {
        let got = fs::read(dir.join(at.to_string())).expect("there");
        assert!(got == *object(10 + at, 2 * MIB + at as usize).body, "{at}");
    }
    must_be_asked_once(&origin, "/c", 7);
}
