//! What one changed byte of a data directory may do, by where it is: as little as can be. Called by `flips`.
//!
//! | byte of | what may come of it |
//! |---|---|
//! | FORMAT, a checkpoint | the node refuses to start, or stops, and names the file |
//! | an object file, its sums, an object's bytes in a pack | this blob is answered with an error, never with 404 |
//! | a batch's heads that a later batch claims | the node refuses to start and names the file |
//! | a batch that nothing claims, the last of its journal | what it says is lost: a torn write looks the same |
//! | anything a checkpoint says too | nothing |

use crate::model::Blob;
use runtime::tier::parts::{Batch, Frame, Purpose, Read, Trailer, read};
use runtime::twin::Image;
use std::path::{Path, PathBuf};

/// What may come of it; nothing, if nothing is set.
#[derive(Clone, Debug, Default)]
pub struct Harm {
    /// The node does not start or stops, and names the file.
    pub refused: bool,
    /// This blob is answered with an error.
    pub damaged: Option<u64>,
    /// The last that was said of these blobs is lost.
    pub unclaimed: Vec<u64>,
}

/// A batch of a journal.
struct Placed {
    at: u64,
    end: u64,
    is_claimed: bool,
    /// A checkpoint says what it says.
    is_known: bool,
    /// Blob, and where its bytes are in the file.
    records: Vec<(u64, std::ops::Range<u64>)>,
}

/// A data directory.
pub struct Harms<'b> {
    blobs: &'b [Blob],
    journals: Vec<(PathBuf, Vec<Placed>)>,
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("names are text")
}

fn number_of(name: &str) -> u32 {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).expect("segments are numbered")
}

fn purpose_of(name: &str) -> Option<Purpose> {
    [Purpose::Pack, Purpose::Index].into_iter().find(|purpose| name.starts_with(purpose.name()))
}

fn seed_of(image: &Image, files: &[PathBuf]) -> u32 {
    let format = files.iter().find(|path| path.ends_with("FORMAT")).expect("a data directory");
    let text = String::from_utf8(image.read(format).expect("just listed")).expect("text");
    let seed = text.lines().find_map(|line| line.strip_prefix("seed ")).expect("a seed");
    u32::from_str_radix(seed, 16).expect("hex digits")
}

impl<'b> Harms<'b> {
    /// Of one directory of one column, with one checkpoint, whose journals have a segment each.
    pub fn new(image: &Image, blobs: &'b [Blob]) -> Harms<'b> {
        let files: Vec<PathBuf> = image.files().into_iter().map(|(path, ..)| path).collect();
        let seed = seed_of(image, &files);
        let mut checkpoints = files.iter().filter(|path| name_of(path).starts_with("checkpoint-"));
        let checkpoint = image.read(checkpoints.next().expect("a checkpoint")).expect("just listed");
        assert!(checkpoints.next().is_none(), "which of them holds?");
        let trailer = checkpoint.rchunks(4096).next().expect("a sector");
        let trailer = Trailer::decode(seed, trailer).expect("a checkpoint");
        let mut harms = Harms { blobs, journals: Vec::new() };
        for path in files {
            let Some(purpose) = purpose_of(name_of(&path)) else { continue };
            let mark = if purpose == Purpose::Pack { trailer.pack } else { trailer.index };
            let number = number_of(name_of(&path));
            let known =
                |end: u64| (u64::from(number), end) <= (u64::from(mark.segment), u64::from(mark.offset));
            let bytes = image.read(&path).expect("just listed");
            let batches = harms.batches((seed, number), &bytes, known);
            harms.journals.push((path, batches));
        }
        harms
    }

    fn batches(&self, (seed, number): (u32, u32), bytes: &[u8], known: impl Fn(u64) -> bool) -> Vec<Placed> {
        let (mut batches, mut at): (Vec<Placed>, usize) = (Vec::new(), 0);
        while let Ok(batch) = Batch::decode(seed, bytes.get(at..).unwrap_or_default()) {
            assert_eq!((batch.segment, batch.before), (number, None), "a segment of its own");
            if let Some(before) = batches.last_mut() {
                assert_eq!(batch.synced, batch.first, "it claims all before it");
                before.is_claimed = true;
            }
            let frames = batch.frames(&bytes[at..]).expect("whole");
            let place = |(frame, data): &(Frame, u32)| {
                let data = at as u64 + u64::from(*data);
                Some((self.blob_of(frame)?, data..data + u64::from(frame.data_bytes)))
            };
            let end = (at + batch.disk_bytes()) as u64;
            batches.push(Placed {
                at: at as u64,
                end,
                is_claimed: false,
                is_known: known(end),
                records: frames.iter().filter_map(place).collect(),
            });
            at = end as usize;
        }
        batches
    }

    fn blob_of(&self, frame: &Frame) -> Option<u64> {
        match read(frame).expect("one of ours") {
            Read::Object(record) => self.named(std::str::from_utf8(&record.digest.hex()).expect("hex")),
            Read::Covered { .. } | Read::Origin(..) => None,
        }
    }

    fn named(&self, hex: &str) -> Option<u64> {
        self.blobs.iter().find(|blob| blob.digest.0.ends_with(hex)).map(|blob| blob.number)
    }

    /// What a change of byte `at` of a file may do.
    pub fn of(&self, path: &Path, at: u64) -> Harm {
        let name = name_of(path);
        if name == "FORMAT" || name.starts_with("checkpoint-") {
            return Harm { refused: true, ..Harm::default() };
        }
        let Some((_, batches)) = self.journals.iter().find(|(journal, _)| journal == path) else {
            let damaged = self.named(name.strip_suffix(".sums").unwrap_or(name));
            assert!(damaged.is_some(), "{} is of no blob", path.display());
            return Harm { damaged, ..Harm::default() };
        };
        let Some(batch) = batches.iter().find(|batch| (batch.at..batch.end).contains(&at)) else {
            return Harm::default();
        };
        let hit = batch.records.iter().find(|(_, data)| data.contains(&at));
        let is_torn = !batch.is_claimed && !batch.is_known;
        Harm {
            refused: batch.is_claimed && !batch.is_known && hit.is_none(),
            damaged: hit.map(|(number, _)| *number),
            unclaimed: batch.records.iter().map(|(number, _)| *number).filter(|_| is_torn).collect(),
        }
    }
}
