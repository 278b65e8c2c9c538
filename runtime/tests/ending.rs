//! How columns end: while their tasks go on asking for calls that may block; and stopped as soon as they run, or before.

mod on_column;

use on_column::on_column;
use runtime::column::Body;
use runtime::io::Io;
use runtime::twin::{FaultPlan, Twin};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

const COLUMNS: usize = 200;
const TASKS: usize = 4;

/// A blocking thread that has nobody to answer panics, and the node aborts on panics.
#[test]
fn no_blocking_thread_outlives_its_column() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        default(panic);
    }));
    for _ in 0..COLUMNS {
        on_column(|column| async move {
            for _ in 0..TASKS {
                let io = column.io.clone();
                column.io.spawn("asks", async move {
                    loop {
                        io.free_bytes(Path::new("/")).await.expect("a root");
                    }
                });
            }
            // At least one call each is under way, or was.
            column.io.free_bytes(Path::new("/")).await.expect("a root");
        });
    }
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "in {COLUMNS} columns");
}

/// Starts a node of two columns, of which the second may fail to be set up, and stops it as soon as `is_due`: how many of their
/// bodies came to their end.
fn bodies_ended(fails: bool, is_due: impl Fn(&mut runtime::twin::Node) -> bool) -> usize {
    const LIMIT_NS: u64 = 1_000_000_000;
    let mut twin = Twin::new(1, 1 << 20, FaultPlan::none());
    let ended = Rc::new(Cell::new(0));
    let give = ended.clone();
    let mut node = twin.start(2, 8 << 20, move |column| {
        let ended = give.clone();
        async move {
            if fails && column.index == 1 {
                return Err("not today".to_owned());
            }
            let body = async move {
                column.stopped().await;
                ended.set(ended.get() + 1);
            };
            Ok(Box::pin(body) as Body)
        }
    });
    twin.run_until(LIMIT_NS, || {
        node.watch();
        is_due(&mut node)
    });
    node.stop();
    twin.run_until(LIMIT_NS, || node.has_ended());
    node.kill();
    ended.get()
}

/// A column that looked only when the node stopped already had no part in its end, for which the others waited.
#[test]
fn a_node_that_is_stopped_as_soon_as_it_runs_ends_on_all_columns() {
    assert_eq!(bodies_ended(false, |node| node.is_running()), 2);
}

#[test]
fn a_node_that_never_ran_has_no_bodies_to_end() {
    assert_eq!(bodies_ended(true, |node| node.failure().is_some()), 0);
}
