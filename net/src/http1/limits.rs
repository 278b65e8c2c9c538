//! Every bound of the HTTP/1.1 codec, with its reason.

/// Longest request head, from the first byte (a tolerated empty line included) to the final CRLFCRLF. Beyond it: 431.
/// 16 KiB is what most proxies in front of us pass on; it also lets field positions be `u16`.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Longest request target. RFC 9112 §3 recommends at least 8000 octets. Beyond it: 414.
pub const TARGET_BYTES_MAX: usize = 8 * 1024;

/// Most field lines in one head. Beyond it: 431.
pub const HEADERS_MAX: usize = 64;

/// Longest head of an origin's answer. Real ones reach 8 KiB (policies, cookies); this is what curl allows for one line.
pub const REPLY_HEAD_BYTES_MAX: usize = 32 * 1024;

/// Most field lines in an origin's answer.
pub const REPLY_FIELDS_MAX: usize = 128;

/// Most hexadecimal digits of a chunk size: 16 are 64 bits, so the size cannot overflow.
pub const CHUNK_SIZE_DIGITS_MAX: u8 = 16;

/// Longest extension of one chunk. We know no extension; an honest client sends none.
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 256;

/// Extensions of one body, all chunks together (RFC 9112 §7.1.1: a server "ought to limit the total length").
pub const CHUNK_EXTENSIONS_TOTAL_BYTES_MAX: usize = 16 * 1024;

/// Longest trailer section, line ends included. It is read over and dropped.
pub const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// Most elements of one `Range` field, empty list elements included. Beyond it: 416.
pub const RANGE_PARTS_MAX: usize = 64;

/// Most ranges of one request that may overlap another one (RFC 9110 §14.2: "more than two overlapping ranges").
pub const RANGE_OVERLAPS_MAX: usize = 2;

/// Most small parts in a set that is not in ascending order (RFC 9110 §14.2: "many small ranges").
pub const RANGE_SMALL_UNORDERED_MAX: usize = 16;

/// What a part of multipart/byteranges costs beside its bytes (RFC 9110 §15.3.7.2: "around 80 bytes"). Shorter parts
/// are small; ranges with a smaller gap between them are sent as one.
pub const RANGE_PART_OVERHEAD_BYTES: u64 = 80;

/// Most `name=value` pairs of one query.
pub const QUERY_PAIRS_MAX: usize = 1024;

/// Longest multipart boundary (RFC 2046 §5.1.1).
pub const BOUNDARY_BYTES_MAX: usize = 70;
