//! Every single bit of the small text files of a data directory, one at a time, before there is a checkpoint: the node refuses the
//! directory and leaves it as it is, or everything that was acknowledged is there.

use crate::boot::{self, Machine};
use crate::model::{Asked, Model};
use crate::script::{DISK_BYTES, begun, blobs, copy_of, look_at, machine, shared, while_running};
use crate::workload::Worker;
use runtime::twin::{FaultPlan, Image, Twin};
use std::path::Path;

/// What the node made of the flips of one file.
#[derive(Default)]
struct Tally {
    refused: u32,
    whole: u32,
    broken: Vec<String>,
}

/// Whether the node refuses the directory; the reason. It is as it was then.
fn refusal(image: &Image, machine: Machine) -> Result<Option<String>, String> {
    let mut twin = Twin::resume(3, image);
    match boot::start(&mut twin, machine) {
        Ok(node) => {
            node.kill();
            Ok(None)
        }
        Err(why) if twin.image().fingerprint() == image.fingerprint() => Ok(Some(why)),
        Err(why) => Err(format!("refused, but touched: {why}")),
    }
}

fn flip_all(image: &Image, path: &Path, model: &Model, machine: Machine) -> Tally {
    let files = image.files();
    let size = files.iter().find(|(found, ..)| found == path).expect("the file is there").1;
    let mut tally = Tally::default();
    for (at, bit) in (0..size).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut flipped = image.clone();
        assert!(flipped.flip_bits(path, at, 1 << bit), "{} has no byte {at}", path.display());
        let looked = match refusal(&flipped, machine) {
            Ok(Some(why)) if why.contains("/data") => {
                tally.refused += 1;
                Ok(())
            }
            Ok(Some(why)) => Err(format!("does not say where: {why}")),
            Ok(None) => {
                tally.whole += 1;
                look_at(&flipped, &blobs(), model, machine)
            }
            Err(why) => Err(why),
        };
        if let Err(why) = looked {
            tally.broken.push(format!("{} byte {at} bit {bit}: {why}", path.display()));
        }
    }
    tally
}

/// Says what came of it, and that nothing was lost.
fn must_hold(what: &str, tally: &Tally) {
    let Tally { refused, whole, broken } = tally;
    println!("{what}: {refused} refused, {whole} whole");
    assert!(
        broken.is_empty(),
        "{what}: {} broken, first: {:?}",
        broken.len(),
        &broken[..broken.len().min(5)]
    );
}

fn has_checkpoint(image: &Image) -> bool {
    image.files().iter().any(|(path, ..)| path.to_string_lossy().contains("checkpoint-"))
}

#[test]
fn any_bit_of_format_may_flip() {
    let (image, model) = begun(&blobs());
    assert!(!has_checkpoint(&image), "a checkpoint would be noticed not to be of this seed");
    let tally = flip_all(&image, Path::new("/data1/FORMAT"), &model, machine(1));
    must_hold("FORMAT", &tally);
}

/// The same disk as the build before wrote it: without a checksum in FORMAT.
fn unsummed(image: &Image) -> Image {
    let path = Path::new("/data1/FORMAT");
    let text = String::from_utf8(image.read(path).expect("there")).expect("text");
    let seed = text.lines().find(|line| line.starts_with("seed ")).expect("a seed");
    let mut old = image.clone();
    assert!(old.replace(path, format!("basalt-tier 1\nshards 256\n{seed}\n").as_bytes()));
    old
}

#[test]
fn a_directory_without_a_checksum_in_format_opens_and_any_bit_of_it_may_flip() {
    let (image, model) = begun(&blobs());
    let image = unsummed(&image);
    assert_eq!(look_at(&image, &blobs(), &model, machine(1)), Ok(()));
    must_hold("FORMAT 1", &flip_all(&image, Path::new("/data1/FORMAT"), &model, machine(1)));
}

/// Two directories with blobs in both, and what the model says of them.
fn begun_on_two() -> (Image, Model, Machine) {
    let two = Machine { dirs: 2, ..machine(1) };
    let blobs = blobs();
    let mut twin = Twin::new(1, DISK_BYTES, FaultPlan::none());
    let shared = shared(&twin, &blobs, Model::default(), true);
    let mut node = boot::start(&mut twin, two).expect("starts on an empty disk");
    let (io, clients) = (twin.outside(), shared.clone());
    let work = async move {
        let mut worker = Worker::new(&io, &clients, 0, 5);
        for own in 0..5 {
            worker.put_as(own, Asked::default()).await;
        }
    };
    while_running(&twin, &mut node, work, &mut |_| ());
    node.kill();
    let model = copy_of(&shared.model);
    assert_eq!(model.violation, None);
    (twin.image(), model, two)
}

#[test]
fn any_bit_of_disks_may_flip() {
    let (image, model, two) = begun_on_two();
    assert!(!has_checkpoint(&image));
    for dir in ["/data1", "/data2"] {
        let tally = flip_all(&image, &Path::new(dir).join("DISKS"), &model, two);
        must_hold(&format!("{dir}/DISKS"), &tally);
    }
}

/// 404 of what the second holds would be a lie.
#[test]
fn no_flipped_bit_of_disks_makes_the_node_start_without_one_of_them() {
    let (image, model, two) = begun_on_two();
    let one = Machine { dirs: 1, ..two };
    let tally = flip_all(&image, Path::new("/data1/DISKS"), &model, one);
    println!("{} refused", tally.refused);
    assert!(
        tally.refused > 0 && tally.whole == 0,
        "{} started, first: {:?}",
        tally.whole,
        tally.broken.first()
    );
}

#[test]
fn a_list_without_checksums_is_read_and_written_anew_with_them() {
    let (image, model, two) = begun_on_two();
    let lists = ["/data1/DISKS", "/data2/DISKS"].map(Path::new);
    let mut old = image.clone();
    for list in lists {
        let text = String::from_utf8(image.read(list).expect("there")).expect("text");
        let unsummed = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!((words[0], words[2], words.len()), ("disk", "crc32c", 5), "{line}");
            format!("disk {} {}\n", words[1], words[4])
        };
        assert!(old.replace(list, text.lines().map(unsummed).collect::<String>().as_bytes()));
    }
    assert_eq!(look_at(&old, &blobs(), &model, two), Ok(()));
    let mut twin = Twin::resume(3, &old);
    boot::start(&mut twin, two).expect("starts").kill();
    for list in lists {
        assert_eq!(twin.image().read(list), image.read(list));
    }
}
