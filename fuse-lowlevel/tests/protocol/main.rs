//! The wire format as a kernel speaks it: see each module.

mod captures;
mod directory;
mod fuzz;
mod golden;
mod negotiation;
mod refusals;
mod replies;
