//! The mesh: how columns talk. Messages only, no locks.
//!
//! Reading order:
//! - [`spsc`]: one bounded ring with one writer and one reader, the only carrier of messages.
//! - [`doorbell`]: one per column; says whether the column sleeps and wakes it through an eventfd.
//! - [`lane`]: a ring between every two columns and a [`Port`] per column, which ties the two together.
//!
//! Caller: the column's driver task, which polls its inbox, spins for a few microseconds, then
//! [`Port::prepare_sleep`]s and awaits the doorbell's eventfd; and whoever on that column sends.
//!
//! Invariants, checked by `loom-tests/`: messages of one lane arrive once, complete and in order; a message
//! left in a ring is dropped once; a column whose `prepare_sleep` was true is woken by the next message.

pub mod doorbell;
pub mod lane;
pub mod spsc;

pub use doorbell::Doorbell;
pub use lane::{Inbox, Outbox, Port, mesh};
