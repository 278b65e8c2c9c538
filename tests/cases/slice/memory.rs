//! The memory budget holds for the proxy: twenty clients on a large cold object at once, then ten times the budget in further objects.

use super::MIB;
use std::thread;
use tests::cgroup::MemoryCgroup;
use tests::content;
use tests::http::Request;
use tests::node::{Node, Setup};
use tests::origin::{Object, Origin};

const BUDGET_BYTES: u64 = 256 << 20;
/// Beside the budget: code, stacks, indexes, sockets, and the least of a page cache.
const LIMIT_BYTES: u64 = BUDGET_BYTES + (192 << 20);
const OBJECT_BYTES: usize = 100 * MIB;
const CLIENTS: usize = 20;

/// Gets all of an object without keeping it, and compares.
fn must_be_whole(node: &Node, path: &str, object: &Object) {
    let mut conn = node.slice();
    conn.send(&Request::new("GET", path).to_bytes()).expect("sent");
    let mut at = 0;
    let reply = conn.receive_into("GET", &mut |part| {
        assert!(object.body[at..at + part.len()] == *part, "{path}: a wrong byte from {at} on");
        at += part.len();
    });
    reply.unwrap_or_else(|fault| panic!("{path}: {fault} after {at} bytes")).must_be(200);
    assert_eq!(at, object.body.len(), "{path}");
}

#[test]
fn twenty_clients_and_ten_times_the_budget_within_the_limit() {
    let Some(group) = MemoryCgroup::or_skip(LIMIT_BYTES) else { return };
    let entry = group.entry();
    let origin = Origin::start();
    let fields = "Cache-Control: max-age=3600\r\n".to_owned();
    let object = Object { fields, ..Object::new(content::bytes(1, OBJECT_BYTES)) };
    let count = (BUDGET_BYTES * 10).div_ceil(OBJECT_BYTES as u64) as usize;
    for at in 0..count {
        origin.put(&format!("/l{at}"), object.clone());
    }
    // Objects make room for others on disk too.
    let setup = Setup::new().origin(&origin.url("")).arg("--slice-size").arg("2MiB").memory("256MiB");
    let mut node = setup.arg("--disk-quota").arg("1GiB").by(&["sh", "-c", &entry, "sh"]).start();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| must_be_whole(&node, "/l0", &object));
        }
    });
    let asked = origin.asked("/l0");
    assert_eq!((asked.len(), asked.values().max()), (OBJECT_BYTES / (2 * MIB), Some(&1)), "{asked:?}");
    thread::scope(|scope| {
        for worker in 0..4 {
            let (node, object) = (&node, &object);
            scope.spawn(move || {
                (1..count)
                    .skip(worker)
                    .step_by(4)
                    .for_each(|at| must_be_whole(node, &format!("/l{at}"), object));
            });
        }
    });
    group.must_have_held(&node, "large objects");
    node.stop();
}
