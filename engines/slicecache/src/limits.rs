//! Every bound of the engine, with its reason. Sizes in bytes, counts without a unit.

/// Slices are made of whole blocks of this size.
pub const SLICE_ALIGN_BYTES: u64 = 4 << 10;

/// The smallest slice that may be set: below it a request to the origin costs more than its bytes.
pub const SLICE_BYTES_MIN: u64 = 64 << 10;

/// The largest slice that may be set: a reader of a cold object holds one in memory.
pub const SLICE_BYTES_MAX: u64 = 10 << 20;

/// Bounds of a slice whose size follows from that of its object.
pub const AUTO_SLICE_BYTES_MIN: u64 = 512 << 10;
/// See [`AUTO_SLICE_BYTES_MIN`].
pub const AUTO_SLICE_BYTES_MAX: u64 = 2 << 20;

/// The most that may be fetched of one object at a time.
pub const SUBREQUESTS_MAX: u64 = 8;

/// What a response may hold in memory: the slice that is sent, and those that are fetched ahead and not yet stored.
pub const RESPONSE_BYTES_MAX: u64 = 12 << 20;

/// Slices that are fetched ahead of a reader: those that [`SUBREQUESTS_MAX`] bring.
pub const AHEAD_SLICES_MAX: usize = SUBREQUESTS_MAX as usize;

/// Readers of one object at a time; one more is told "busy".
pub const READERS_MAX: usize = 65_535;

/// Readers whose clients one column has, those that have left and whose owner has not heard of it among them: more than it has requests.
/// One more is told "busy".
pub const SITTING_MAX: usize = 65_536;

/// Readers of whose leaving an owner is told at a time.
pub const LEAVES_AT_ONCE: usize = 64;

/// Requests that wait for a connection to one origin.
pub const TURNS_WAITING_MAX: usize = 4096;

/// Requests to one origin under way from one column, those that are passed through among them: unless told otherwise, and the most
/// that may be told.
pub const ORIGIN_CONNECTIONS_MAX: usize = 256;

/// Received of an origin at a time: the first bytes of a slice go out soon, the others cost less.
pub const FIRST_PIECE_BYTES: usize = 64 << 10;
/// See [`FIRST_PIECE_BYTES`].
pub const PIECE_BYTES: usize = 256 << 10;

/// Of a body that is passed through, in memory of each request.
pub const PASSED_PIECE_BYTES: usize = 64 << 10;

/// Part of a column's buffers that slices on their way into the tier may hold: a store waits for several syncs, so there is little
/// throughput in few of them.
pub const STORES_PART: u64 = 8;

/// The buffer of a reader whose slice is read from disk.
pub const READ_BYTES: u64 = 256 << 10;

/// Objects that a column knows of without looking into the tier.
pub const OBJECTS_MAX: usize = 8192;

/// Objects of which a column remembers on which fields their answers depend.
pub const VARIES_MAX: usize = 65_536;

/// How often, and after how long a wait each, memory is asked for again: ten seconds in all.
pub const MEMORY_TRIES_MAX: usize = 5000;
/// See [`MEMORY_TRIES_MAX`].
pub const MEMORY_RETRY_NS: u64 = 2_000_000;

/// Slices of which the tier is asked between turns of other tasks.
pub const LOOKED_AT_ONCE: u64 = 256;

/// Slices of one object that may be told apart; beyond it the object is passed through.
pub const SLICES_MAX: u64 = 1 << 24;

/// What is known of an object beside its slices: small enough for the tier to pack it.
pub const ENTRY_BYTES_MAX: usize = 64 << 10;

/// The largest object that is stored whole, as one slice, when its origin gives no ranges of it; beyond it such an object is passed
/// through.
pub const WHOLE_BYTES_MAX: u64 = SLICE_BYTES_MAX;

/// The largest answer that is kept whole in memory: errors, redirects, what has no validator or no stated length.
pub const KEPT_BYTES_MAX: usize = 64 << 10;

/// How long, from the head of such an answer on, all who wait for it wait for the end of its body: what takes longer goes to each as it
/// comes.
pub const KEPT_WAIT_NS: u64 = 1_000_000_000;

/// All such answers of one column, their fields among them.
pub const KEPT_BYTES_ALL_MAX: u64 = 4 << 20;

/// Targets of one column whose answers are written ahead, the longest of them, and the most of fields that is kept of one.
pub const HOT_MAX: usize = 1024;
/// See [`HOT_MAX`].
pub const HOT_TARGET_BYTES_MAX: usize = 1 << 10;
/// See [`HOT_MAX`].
pub const HOT_FIELDS_BYTES_MAX: usize = 4 << 10;

/// How long requests for what could not be stored pass by the cache at once, instead of asking the origin about it first.
pub const PASSES_S: u64 = 10;

/// An object up to this size is a small one: where connections are short its fetches go before those of larger ones.
pub const SMALL_BYTES_MAX: u64 = 1 << 20;

/// Objects of which it is known that what is passed through of them is large.
pub const LARGE_PASSED_MAX: usize = 4096;

/// Directives that are read of one Cache-Control; what follows them is as if it was malformed.
pub const DIRECTIVES_MAX: usize = 64;

/// Tags of one object; what has more is not stored, since a purge could miss it.
pub const TAGS_MAX: usize = 64;

/// Of what a purge names, the most that its line in the log has.
pub const PURGE_LOGGED_BYTES_MAX: usize = 1 << 10;

/// The longest tag, path or prefix that a purge may name.
pub const PURGE_NAME_BYTES_MAX: usize = 8 << 10;

/// Purges that are told apart; beyond it the oldest half becomes one purge of everything before it.
pub const PURGE_RULES_MAX: usize = 65_536;

/// Purges of one column's clients, gone or not, that are not yet on stable storage and known everywhere; one more is told "busy".
pub const PURGES_WAITING_MAX: usize = 4096;

/// Objects of which what is stored is not believed, since it could be neither deleted nor purged; beyond it nothing that is stored
/// is.
pub const DISOWNED_MAX: usize = 4096;

/// Patterns of paths that are sliced.
pub const PATTERNS_MAX: usize = 256;

/// Prefixes of paths with a slice size of their own.
pub const PATH_SIZES_MAX: usize = 256;

/// The longest pattern.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// The most that may be set as `max_retries`.
pub const RETRIES_MAX: u32 = 10;

/// The longest wait for an origin that says Retry-After: clients wait too.
pub const RETRY_AFTER_MAX_NS: u64 = 10_000_000_000;

const _: () = assert!(AUTO_SLICE_BYTES_MIN.is_multiple_of(SLICE_ALIGN_BYTES));
const _: () = assert!(AUTO_SLICE_BYTES_MAX.is_multiple_of(SLICE_ALIGN_BYTES));
const _: () = assert!(SLICE_BYTES_MIN <= AUTO_SLICE_BYTES_MIN && AUTO_SLICE_BYTES_MAX <= SLICE_BYTES_MAX);
const _: () = assert!(SLICE_BYTES_MAX <= RESPONSE_BYTES_MAX);
