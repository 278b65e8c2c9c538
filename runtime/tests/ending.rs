//! A column ends while its tasks go on asking for calls that may block.

mod on_column;

use on_column::on_column;
use runtime::io::Io;
use std::path::Path;
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
