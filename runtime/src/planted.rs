//! Bugs planted on purpose, one at a time, to show that the simulation catches them. Without the feature `planted`, which
//! only tests turn on, `is` is the constant `false` and costs nothing.
//!
//! Called at the place of each bug: in the tier where a decision is wrong, in the twin where a call is left out (the program
//! asks for a sync; the twin acts as if it had not).

/// Names the bugs of a crate and plants them: the enum `Bug`, the array `BUGS` of all of them, `plant` and `is`. The crate has a
/// feature `planted` of its own; each thread has one bug planted, or none.
#[macro_export]
macro_rules! planted_bugs {
    ($($(#[$what:meta])+ $bug:ident,)+) => {
        /// Every planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$what])+ $bug,)+
        }

        /// All of them.
        pub const BUGS: [Bug; [$(Bug::$bug),+].len()] = [$(Bug::$bug),+];

        #[cfg(feature = "planted")]
        ::std::thread_local! {
            static PLANTED: ::std::cell::Cell<Option<Bug>> = const { ::std::cell::Cell::new(None) };
        }

        /// Plants a bug for this thread, or none.
        #[cfg(feature = "planted")]
        pub fn plant(bug: Option<Bug>) {
            PLANTED.set(bug);
        }

        /// Whether that bug is planted.
        #[cfg(feature = "planted")]
        pub(crate) fn is(bug: Bug) -> bool {
            PLANTED.get() == Some(bug)
        }

        /// No bug is planted in what users run.
        #[cfg(not(feature = "planted"))]
        #[inline(always)]
        pub(crate) const fn is(_bug: Bug) -> bool {
            false
        }
    };
}

// There is one for each sync that the design names but four, which nobody can see left out: that of a new segment's blocks (the
// first batch in it is synced, and with it the file), that of a checkpoint's parts (the sync of its trailer is the file's), and
// those of the directory before and after the renaming of FORMAT and DISKS (each start gives a segment its name there before
// anything is promised).
planted_bugs! {
    /// A group of records is written to a pack and not synced.
    PackUnsynced,
    /// The same of the index.
    IndexUnsynced,
    /// Records are acknowledged when they are written, and synced later.
    AckBeforeSync,
    /// A sync that failed is tried again, and what it says then is believed.
    FailedSyncRetried,
    /// An object file is not synced before it is named.
    ObjectUnsynced,
    /// Nor are its checksums.
    SumsUnsynced,
    /// The directory of an object's name is not synced.
    ObjectNameUnsynced,
    /// The directory of a new segment is not synced.
    SegmentNameUnsynced,
    /// Nor is that of a spare that becomes a segment.
    SpareNameUnsynced,
    /// A checkpoint gets its name before its trailer is synced.
    CheckpointUnsynced,
    /// The directory of its name is not synced before what it replaces is removed.
    CheckpointNameUnsynced,
    /// FORMAT gets its name before it is synced.
    FormatUnsynced,
    /// And DISKS.
    DisksUnsynced,
    /// The names of the shards' directories are not synced.
    ShardDirsUnsynced,
    /// Nor is that of the data directory.
    RootNameUnsynced,
    /// What is left of a segment after a restart is not synced before it is built upon.
    RecoveredUnsynced,
    /// The checksum of a packed object is not looked at when it is read.
    PackedUnverified,
    /// Nor those of an object file.
    ObjectUnverified,
    /// A deletion is not recorded.
    DeletionUnrecorded,
    /// Of two records of an object any may win, not the newer one.
    StaleRecordWins,
    /// A batch that did not reach the disk whole is taken for whole.
    TornTailAccepted,
    /// An object whose time is over is served.
    ExpiredServed,
    /// Who stores for longer what is there already is told that it is, and it is not.
    KeepNotBettered,
    /// A page of the listing takes any names, not the next ones.
    ListUnsorted,
    /// What an earlier life left in a segment that is written over is taken for this one's.
    IncarnationUnchecked,
    /// Damage below a claim is taken for a torn tail.
    ClaimIgnored,
    /// Making room drops what is pinned, too.
    PinnedEvicted,
    /// A pack is retired while the index still names objects in it.
    LivePackRetired,
}
