//! An origin in trouble is left alone and asked again when it is back; one path that is wrong says nothing of the others.

use super::{get, word};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};
use tests::http::Request;
use tests::node::{Node, Setup, cpuset, free_addr};
use tests::scripted::{Asked, Scripted, answer, honest};

/// Failures in a row after which an origin is left alone, and for how long at first.
const IN_A_ROW: usize = 10;
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// What a busy machine takes for a few requests.
const SLACK: Duration = Duration::from_millis(700);

/// One column has one breaker; each request is one try.
fn start(url: &str) -> Node {
    Setup::new().cpuset(cpuset(1)).origin(url).arg("--slice-retries").arg("0").start()
}

fn fresh(asked: &Asked) -> Vec<u8> {
    honest(asked, "\"1\"", "Cache-Control: max-age=3600\r\n", b"what it is")
}

/// A request of one kind or the other: for slices, or passed through.
fn ask(node: &Node, path: &str, is_passed: bool) -> u16 {
    let request = Request::new("GET", path);
    node.slice().call(&if is_passed { request.header("Cookie", "a=b") } else { request }).status
}

#[test]
fn an_origin_that_refuses_is_left_alone_and_asked_again_when_it_is_back() {
    for is_passed in [false, true] {
        let addr: SocketAddr = free_addr();
        assert_eq!(addr.ip(), Ipv4Addr::LOCALHOST);
        let node = start(&format!("http://{addr}"));
        let statuses: Vec<u16> = (0..IN_A_ROW).map(|at| ask(&node, &format!("/{at}"), is_passed)).collect();
        assert_eq!(statuses, [502; IN_A_ROW]);
        let opened = Instant::now();
        // It is back at once, and nobody looks.
        let origin = Scripted::start_on(addr, |asked, to| to.write_all(&fresh(asked)));
        let mut refused = 0;
        while opened.elapsed() < LEFT_ALONE - SLACK {
            let begin = Instant::now();
            assert_eq!(ask(&node, &format!("/again{refused}"), is_passed), 503);
            assert!(begin.elapsed() < SLACK, "told at once, not after {:?}", begin.elapsed());
            refused += 1;
        }
        assert!(refused > 0 && origin.connections() == 0, "{} connections", origin.connections());
        thread::sleep(LEFT_ALONE + SLACK);
        // The first one decides; then all are asked for.
        for at in 0..IN_A_ROW * 3 {
            assert_eq!(ask(&node, &format!("/back{at}"), is_passed), 200);
        }
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn an_origin_that_goes_on_failing_is_tried_by_one_request_at_a_time() {
    let origin = Scripted::start(|_| Vec::new());
    let node = start(&origin.url());
    for at in 0..IN_A_ROW {
        assert_eq!(ask(&node, &format!("/{at}"), false), 502);
    }
    assert_eq!(origin.connections(), IN_A_ROW);
    let (begin, mut statuses) = (Instant::now(), Vec::new());
    // Long enough for one try, after a second, and not for the next, two seconds behind it.
    while begin.elapsed() < LEFT_ALONE * 2 {
        statuses.push(ask(&node, &format!("/again{}", statuses.len()), false));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(statuses.iter().filter(|&&status| status == 502).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [502, 503].contains(status)), "{statuses:?}");
    assert_eq!(origin.connections(), IN_A_ROW + 1);
}

/// Who knows a path that is answered with nonsense must not get the others left alone.
#[test]
fn a_path_with_malformed_answers_is_a_matter_of_its_own() {
    let origin = Scripted::start(|asked| match asked.target() {
        target if target.starts_with("/large") => {
            answer(200, &format!("X-Large: {}\r\n", "x".repeat(40_000)), b"hello")
        }
        target if target.starts_with("/many") => answer(200, &"X-Many: 1\r\n".repeat(200), b"hello"),
        target if target.starts_with("/nonsense") => b"nonsense\r\n\r\n".to_vec(),
        _ => fresh(asked),
    });
    for is_passed in [false, true] {
        let node = start(&origin.url());
        for path in ["/large", "/many", "/nonsense"] {
            for at in 0..IN_A_ROW * 2 {
                assert_eq!(ask(&node, &format!("{path}{at}"), is_passed), 502, "{path}");
            }
        }
        assert_eq!(word(&get(&node, "/good", "").must_be(200)), "MISS");
    }
}
