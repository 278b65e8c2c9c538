//! What is known of an object beside its slices: enough to serve it, to ask about it, and to see whether it was purged.
//!
//! | bytes | hold |
//! |---|---|
//! | 0 | version: 1 |
//! | 1 | bits: 1 must-revalidate, 2 no-cache, 4 the validator is a date, 8 with a weak tag |
//! | 2..4 | status |
//! | 4..8 | size of slices |
//! | 8..16 | generation (`state::purge`) |
//! | 16..24 | number of the version, of which the names of its slices are made |
//! | 24..32 | size of the object |
//! | 32..40 | when the answer came |
//! | 40..72 | initial age, lifetime, stale-while-revalidate, stale-if-error |
//! | 72..80 | Last-Modified if the validator is a date, else 0 |
//! | 80.. | texts, each behind its length in four bytes; lists of them behind their count |
//!
//! The texts: target, tag of the validator (may be empty); the lists: tags, names of Vary, names and values of the fields.
//!
//! Invariant: what decodes can be run: sizes are in bounds, no field could end a line of a head.

use crate::limits::{ENTRY_BYTES_MAX, SLICE_ALIGN_BYTES, SLICE_BYTES_MAX, SLICE_BYTES_MIN, SLICES_MAX};
use crate::state::cache_control::DELTA_SECONDS_MAX;
use crate::state::forward::{FORWARDED, Line};
use crate::state::freshness::Freshness;
use crate::state::purge::Generation;
use crate::state::validator::{Validator, Version};
use net::http1::conditional::is_strong_tag;

const VERSION: u8 = 1;
const MUST_REVALIDATE: u8 = 1;
const NO_CACHE: u8 = 2;
const IS_DATE: u8 = 4;
const HAS_WEAK_TAG: u8 = 8;

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of the time when its first fetch began.
    pub generation: Generation,
    /// Drawn anew for each version.
    pub number: u64,
    /// Path and query, normalised.
    pub target: String,
    /// 200 in all but negative answers.
    pub status: u16,
    /// The version that holds.
    pub version: Version,
    /// Its slices' size when it was first stored; a change of the configuration does not change it.
    pub slice_bytes: u64,
    /// How fresh it is.
    pub freshness: Freshness,
    /// For purges.
    pub tags: Vec<String>,
    /// The fields that select it.
    pub vary: Vec<String>,
    /// The fields that are sent.
    pub lines: Vec<Line>,
}

impl Entry {
    /// The bytes; `None` when they are more than [`ENTRY_BYTES_MAX`]: such an object is not stored.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let (modified_s, tag, validator_bits) = match &self.version.validator {
            Validator::Tag(tag) => (0, tag.as_str(), 0),
            Validator::Modified { modified_s, weak_tag: None } => (*modified_s, "", IS_DATE),
            Validator::Modified { modified_s, weak_tag: Some(tag) } => {
                (*modified_s, tag.as_str(), IS_DATE | HAS_WEAK_TAG)
            }
        };
        let freshness = &self.freshness;
        let must_revalidate = if freshness.must_revalidate { MUST_REVALIDATE } else { 0 };
        let no_cache = if freshness.no_cache { NO_CACHE } else { 0 };
        let mut out = vec![VERSION, must_revalidate | no_cache | validator_bits];
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(
            &u32::try_from(self.slice_bytes).expect("at most SLICE_BYTES_MAX").to_le_bytes(),
        );
        for number in [
            self.generation,
            self.number,
            self.version.size,
            freshness.response_s,
            freshness.initial_age_s,
            freshness.lifetime_s,
            freshness.stale_while_revalidate_s,
            freshness.stale_if_error_s,
            modified_s,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        put_text(&mut out, self.target.as_bytes());
        put_text(&mut out, tag.as_bytes());
        put_list(&mut out, self.tags.iter().map(String::as_bytes));
        put_list(&mut out, self.vary.iter().map(String::as_bytes));
        put_list(&mut out, self.lines.iter().flat_map(|(name, value)| [&name[..], &value[..]]));
        (out.len() <= ENTRY_BYTES_MAX).then_some(out)
    }

    /// What a record says; `None` when it is none, or a later version's.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Entry> {
        let mut rest = Rest { bytes: Some(bytes).filter(|bytes| bytes.len() <= ENTRY_BYTES_MAX)? };
        let [version, bits] = rest.array()?;
        if version != VERSION || bits >= 2 * HAS_WEAK_TAG {
            return None;
        }
        let status = u16::from_le_bytes(rest.array()?);
        let slice_bytes = u64::from(u32::from_le_bytes(rest.array()?));
        let (generation, number, size) = (rest.number()?, rest.number()?, rest.number()?);
        let freshness = Freshness {
            response_s: rest.number()?,
            initial_age_s: rest.seconds()?,
            lifetime_s: rest.seconds()?,
            stale_while_revalidate_s: rest.seconds()?,
            stale_if_error_s: rest.seconds()?,
            must_revalidate: bits & MUST_REVALIDATE != 0,
            no_cache: bits & NO_CACHE != 0,
        };
        let modified_s = rest.number()?;
        let target = rest.string().filter(|target| target.starts_with('/'))?;
        let validator = validator(bits, modified_s, rest.string()?)?;
        let (tags, vary) = (rest.strings()?, rest.strings()?);
        let lines = rest.lines()?;
        let has_sound_slices = (SLICE_BYTES_MIN..=SLICE_BYTES_MAX).contains(&slice_bytes)
            && slice_bytes.is_multiple_of(SLICE_ALIGN_BYTES)
            && size.div_ceil(slice_bytes) <= SLICES_MAX;
        let has_sound_names = vary.iter().all(|name| FORWARDED.contains(&name.as_str()));
        let is_sound =
            has_sound_slices && has_sound_names && (200..600).contains(&status) && rest.bytes.is_empty();
        let version = Version { validator, size };
        is_sound.then_some(Entry {
            generation,
            number,
            target,
            status,
            version,
            slice_bytes,
            freshness,
            tags,
            vary,
            lines,
        })
    }
}

fn validator(bits: u8, modified_s: u64, tag: String) -> Option<Validator> {
    match (bits & IS_DATE != 0, bits & HAS_WEAK_TAG != 0) {
        (false, false) => (modified_s == 0 && is_strong_tag(tag.as_bytes())).then_some(Validator::Tag(tag)),
        (true, false) => tag.is_empty().then_some(Validator::Modified { modified_s, weak_tag: None }),
        (true, true) => {
            let is_weak = tag.strip_prefix("W/").is_some_and(|opaque| is_strong_tag(opaque.as_bytes()));
            is_weak.then_some(Validator::Modified { modified_s, weak_tag: Some(tag) })
        }
        (false, true) => None,
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    // More than fits in the length is more than fits in an entry, which `encode` then refuses.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text);
}

fn put_list<'t>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'t [u8]>) {
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let mut count: u32 = 0;
    for text in texts {
        put_text(out, text);
        count += 1;
    }
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
}

/// What has not been read yet.
struct Rest<'b> {
    bytes: &'b [u8],
}

impl<'b> Rest<'b> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn seconds(&mut self) -> Option<u64> {
        self.number().filter(|seconds| *seconds <= DELTA_SECONDS_MAX)
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let length = self.count()?;
        let (text, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(text)
    }

    fn string(&mut self) -> Option<String> {
        String::from_utf8(self.text()?.to_vec()).ok()
    }

    fn strings(&mut self) -> Option<Vec<String>> {
        let count = self.count()?;
        // Grows with what is there, not with what a number says.
        (0..count).map(|_| self.string()).collect()
    }

    fn lines(&mut self) -> Option<Vec<Line>> {
        let count = self.count()?;
        let is_sound = |text: &[u8]| !text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
        let line = |_| {
            let (name, value) = (self.text()?, self.text()?);
            (!name.is_empty() && is_sound(name) && is_sound(value)).then(|| (name.to_vec(), value.to_vec()))
        };
        if count.is_multiple_of(2) { (0..count / 2).map(line).collect() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mutation::fuzz;

    fn entry(validator: Validator) -> Entry {
        Entry {
            generation: 3,
            number: 0x0102_0304_0506_0708,
            target: "/a?b".to_owned(),
            status: 200,
            version: Version { validator, size: 5_000_000 },
            slice_bytes: 1 << 20,
            freshness: Freshness {
                response_s: 784_111_777,
                initial_age_s: 1,
                lifetime_s: 2,
                stale_while_revalidate_s: 3,
                stale_if_error_s: 4,
                must_revalidate: true,
                no_cache: false,
            },
            tags: vec!["x".to_owned(), "ü".to_owned()],
            vary: vec!["accept".to_owned()],
            lines: vec![(b"ETag".to_vec(), b"\"a\"".to_vec()), (b"X".to_vec(), b"\xff".to_vec())],
        }
    }

    fn golden() -> Vec<Vec<u8>> {
        let dated = |weak_tag| Validator::Modified { modified_s: 784_111_776, weak_tag };
        let validators = [Validator::Tag("\"a\"".to_owned()), dated(None), dated(Some("W/\"a\"".to_owned()))];
        validators.into_iter().map(|validator| entry(validator).encode().expect("small")).collect()
    }

    #[test]
    fn the_bytes_of_version_1() {
        let bytes = golden().swap_remove(0);
        let numbers: Vec<u64> = [3, 0x0102_0304_0506_0708, 5_000_000, 784_111_777, 1, 2, 3, 4, 0].into();
        assert_eq!(bytes[..8], [1, 1, 200, 0, 0, 0, 16, 0]);
        assert_eq!(bytes[8..80], numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>());
        let texts =
            b"\x04\0\0\0/a?b\x03\0\0\0\"a\"\x02\0\0\0\x01\0\0\0x\x02\0\0\0\xc3\xbc\x01\0\0\0\x06\0\0\0accept\
            \x04\0\0\0\x04\0\0\0ETag\x03\0\0\0\"a\"\x01\0\0\0X\x01\0\0\0\xff";
        assert_eq!(bytes[80..], texts[..]);
        assert_eq!(Entry::decode(&bytes), Some(entry(Validator::Tag("\"a\"".to_owned()))));
        let mut later = bytes;
        later[0] = 2;
        assert_eq!(Entry::decode(&later), None);
    }

    #[test]
    fn an_entry_that_is_too_large_is_none() {
        let mut large = entry(Validator::Tag("\"a\"".to_owned()));
        large.lines.push((b"X".to_vec(), vec![b'a'; ENTRY_BYTES_MAX]));
        assert_eq!(large.encode(), None);
    }

    #[test]
    fn records_under_mutation() {
        fuzz(
            "entry",
            &golden(),
            |_| {},
            |bytes| {
                let Some(entry) = Entry::decode(bytes) else { return false };
                assert!(entry.version.size.div_ceil(entry.slice_bytes) <= SLICES_MAX);
                assert!(entry.lines.iter().all(|(_, value)| !value.contains(&b'\n')));
                assert_eq!(entry.encode().as_deref(), Some(bytes));
                true
            },
        );
    }
}
