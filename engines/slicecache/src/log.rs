//! What the engine writes down, and its bytes. Whoever stores them (journal, tier) frames them with length and checksum.
//!
//! | file | record | written | counts when |
//! |---|---|---|---|
//! | `purge` | an order | to the journal, before it is answered | synced |
//! | `entry` | what is known of an object beside its slices | to the tier under the object's name, with its first slice and when it is refreshed | stored |
//!
//! Integers are little-endian. A record of a later version is refused: its entry counts as missing, and a purge of it stops the
//! start, since what it purged would come back.

pub mod entry;
pub mod purge;
