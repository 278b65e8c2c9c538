//! Bugs planted on purpose, one at a time, to show that the simulation catches them. Without the feature `planted`, which
//! only tests turn on, `is` is the constant `false` and costs nothing.
//!
//! Called at the place of each bug.

runtime::planted_bugs! {
    /// Slices of another version than the one that is read are taken for it.
    ValidatorUncompared,
    /// A 304 about another version makes this one fresh.
    ForeignNotModified,
    /// Another range than the one asked for is taken for it.
    ContentRangeUnchecked,
    /// The first part that came is taken for all there is.
    PartialForWhole,
    /// A body that breaks off is taken for complete.
    ShortBodyAccepted,
    /// A fetch that is tried again resumes a byte late.
    RetryByteLate,
    /// All versions of an object have slices of the same names.
    VersionNumberReused,
    /// What is stored is served however old it is.
    FreshnessIgnored,
    /// What must not be stored is.
    NoStoreIgnored,
    /// Answers that depend on fields are served to everybody.
    VaryIgnored,
    /// Of two who ask at a time each has the origin asked.
    SingleFlightBroken,
    /// A slice leaves memory before the tier has it.
    FreedEarly,
    /// A purge is answered and not written down.
    PurgeUnwritten,
    /// A purge holds on one column.
    PurgeOnOneColumn,
    /// What was purged before a restart is not learned.
    PurgesUnlearned,
    /// What was being fetched when it was purged stays.
    GenerationLate,
    /// What is purged softly is served as fresh.
    SoftPurgeIgnored,
    /// An unsafe method leaves what is stored.
    InvalidationSkipped,
    /// A conditional request is answered as if it had no condition.
    IfRangeIgnored,
}
