//! The access log of one column: lines are gathered in memory and given away in batches. Called by `serve`, once for each request.
//!
//! Invariants
//! 1. Nobody waits for it: who takes the batches (a thread that writes) takes one at once or not at all. What is not taken is
//!    dropped and counted in lines.
//! 2. A line is at most [`FLUSH_NS`] old when it is given away, and a batch at most [`BATCH_BYTES`] and one line long.

mod format;

pub use format::{BadFormat, Format, Line};

use runtime::io::Io;
use runtime::metrics::Counter;
use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

/// Given away when there is so much.
pub const BATCH_BYTES: usize = 64 << 10;
/// Given away when the first line is so old.
pub const FLUSH_NS: u64 = 200_000_000;

/// Takes whole lines, or says at once that it cannot.
pub type Give = Arc<dyn Fn(Vec<u8>) -> bool + Send + Sync>;

/// What every column is told of the log.
#[derive(Clone)]
pub struct Plan {
    /// The shape of lines.
    pub format: Format,
    /// Who writes them.
    pub give: Give,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
}

/// See the head of this file.
pub struct AccessLog<I: Io> {
    io: I,
    plan: Plan,
    batch: RefCell<Batch>,
    lines: Counter,
    dropped: Counter,
    me: Weak<AccessLog<I>>,
}

impl<I: Io> AccessLog<I> {
    /// Of a column; counts its lines, and those that nobody took.
    pub fn new(io: &I, plan: Plan, (lines, dropped): (Counter, Counter)) -> Rc<AccessLog<I>> {
        let (io, batch) = (io.clone(), RefCell::default());
        Rc::new_cyclic(|me| AccessLog { io, plan, batch, lines, dropped, me: me.clone() })
    }

    /// A request was answered, or came to nothing.
    pub fn note(&self, line: &Line<'_>) {
        let is_first = {
            let batch = &mut *self.batch.borrow_mut();
            let is_first = batch.lines == 0;
            self.plan.format.write(line, &mut batch.bytes);
            batch.lines += 1;
            is_first
        };
        self.lines.inc();
        if self.batch.borrow().bytes.len() >= BATCH_BYTES {
            self.flush();
        } else if is_first {
            let (io, me) = (self.io.clone(), self.me.clone());
            self.io.spawn("slice-access", async move {
                io.sleep(FLUSH_NS).await;
                if let Some(me) = me.upgrade() {
                    me.flush();
                }
            });
        }
    }

    /// Gives away what there is.
    pub fn flush(&self) {
        let Batch { bytes, lines } = std::mem::take(&mut *self.batch.borrow_mut());
        if lines > 0 && !(self.plan.give)(bytes) {
            self.dropped.add(lines);
        }
    }
}
