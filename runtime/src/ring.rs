//! The io_uring of a column, beside glommio's own, and everything that goes through it.
//!
//! A task pushes an operation (`core.rs`) and waits for its completion; the driver task (`driver.rs`) submits in batches,
//! reaps, wakes, and sleeps on one eventfd that completions and messages of other columns both write. Operations on files, and what
//! the kernel reads for pinned pages (`pin.rs`), pass the column's disk queue (`queue.rs`) first.
//!
//! Invariants
//! 1. An operation owns the memory the kernel may touch; dropping its future leaves that memory with the slot until the
//!    completion has come (`Slot::Orphan`).
//! 2. A slot is reused only after its last completion, so `user_data` needs no generation.
//! 3. Nobody sleeps while a submission is unsubmitted, a completion unread or a message unseen: the driver arms first
//!    (asleep flag, eventfd notifications) and looks once more before it waits.
//! 4. COOP_TASKRUN, not DEFER_TASKRUN: on Linux 6.18 a deferred ring loses wake-ups when one of its operations waits on
//!    another eventfd.

mod blocking;
mod conn;
mod core;
mod driver;
mod file;
mod fixed;
mod handle;
mod listener;
mod pin;
mod queue;
mod receive;
mod spin;

pub use blocking::settle;
pub use conn::{Chunk, RingConn};
pub use core::{Cqe, Ring};
pub(crate) use driver::drive;
pub use driver::{Inbox, Traffic};
pub use file::RingFile;
pub use handle::RingIo;
pub use listener::{Listener, bind};
