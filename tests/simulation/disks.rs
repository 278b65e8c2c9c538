//! One of two data directories fails while a large object is received: whichever operation on its files meets that, the directory
//! is out, and what is stored next goes to the other one.

use crate::boot::{self, Machine};
use crate::client::Client;
use crate::origin;
use crate::script::DISK_BYTES;
use runtime::twin::{FaultPlan, Image, Twin, TwinIo};
use std::path::Path;
use tests::content;

const EIO: i32 = 5;
const LIMIT_NS: u64 = 600_000_000_000;
const MACHINE: Machine = Machine { columns: 1, dirs: 2, quota_bytes: 256 << 20 };
/// Larger than a write, so that there are several.
const BODY_BYTES: usize = 2_500_000;
/// Stored after the failure: one that could go to the failed directory would.
const NEXT: u64 = 8;
const NEXT_BYTES: usize = 70_000;

#[derive(Clone, Copy, Debug)]
enum Way {
    Put,
    Fetched,
}

/// What a client sees that is refused while it sends, and cut off before it has read why.
const CUT: u16 = 0;

async fn put(client: &mut Client, body: &[u8]) -> u16 {
    let fields = format!("Content-Length: {}\r\n", body.len());
    client.call("PUT /blobs", &fields, body).await.map_or(CUT, |reply| reply.status)
}

async fn fetch(client: &mut Client) -> u16 {
    let order = format!("{{\"url\":\"{}\"}}", origin::url());
    let fields = format!("Content-Length: {}\r\n", order.len());
    client.call("POST /blobs/fetch", &fields, order.as_bytes()).await.expect("an answer").status
}

/// Object files in each directory.
fn object_files(image: &Image) -> [usize; 2] {
    let files = image.files();
    ["/data1/objects", "/data2/objects"].map(|dir| {
        let is_object = |path: &Path| path.starts_with(dir) && path.extension().is_none();
        files.iter().filter(|(path, ..)| is_object(path)).count()
    })
}

async fn store_one(io: TwinIo, way: Way) -> u16 {
    let body = content::bytes(1, BODY_BYTES);
    let mut client = Client::new(io.clone());
    match way {
        Way::Put => put(&mut client, &body).await,
        Way::Fetched => {
            origin::serve(&io, body, 0);
            fetch(&mut client).await
        }
    }
}

async fn store_next(io: TwinIo) -> Vec<u16> {
    let mut client = Client::new(io);
    let mut statuses = Vec::new();
    for number in 0..NEXT {
        statuses.push(put(&mut client, &content::bytes(100 + number, NEXT_BYTES)).await);
    }
    statuses
}

/// Stores one large object, the `nth` operation of the disks failing: its status, operations so far, and where the next ones went.
fn scene(begin: &Image, way: Way, nth: Option<u64>) -> (u16, u64, [usize; 2]) {
    let mut twin = Twin::resume(nth.unwrap_or(0), begin);
    let mut node = boot::start(&mut twin, MACHINE).expect("starts");
    let mut faults = FaultPlan::none();
    faults.nth = nth.map(|nth| (nth, EIO));
    twin.set_faults(faults);
    let status = twin.run(LIMIT_NS, store_one(twin.outside(), way));
    let operations = twin.disk_operations();
    twin.set_faults(FaultPlan::none());
    let before = object_files(&twin.image());
    let next = twin.run(LIMIT_NS, store_next(twin.outside()));
    assert_eq!(next, [201; NEXT as usize], "{way:?}, EIO at disk operation {nth:?}");
    let after = object_files(&twin.image());
    node.watch();
    assert!(node.failure().is_none(), "{way:?}, EIO at disk operation {nth:?}: {:?}", node.failure());
    boot::stop(&twin, node);
    (status, operations, [after[0] - before[0], after[1] - before[1]])
}

fn empty() -> Image {
    let mut twin = Twin::new(1, DISK_BYTES, FaultPlan::none());
    let node = boot::start(&mut twin, MACHINE).expect("starts on empty disks");
    boot::stop(&twin, node);
    twin.image()
}

#[test]
fn a_disk_that_fails_a_large_object_is_taken_out() {
    let begin = empty();
    for (way, refusal) in [(Way::Put, 503), (Way::Fetched, 500)] {
        let (status, operations, next) = scene(&begin, way, None);
        assert!(status == 201 && next[0] > 0 && next[1] > 0, "{way:?} on healthy disks: {status}, {next:?}");
        let mut refused = 0;
        // What is awaited of the disks comes before the answer, but not at the same number in every world.
        for nth in 1..=operations + 10 {
            let (status, _, next) = scene(&begin, way, Some(nth));
            if status == 201 {
                continue;
            }
            refused += 1;
            let is_refused = status == refusal || (status == CUT && matches!(way, Way::Put));
            assert!(is_refused, "{way:?}, EIO at disk operation {nth}: {status}");
            assert!(
                next.contains(&0),
                "{way:?}, EIO at disk operation {nth}: the next ones went to {next:?}"
            );
        }
        println!("{way:?}: {refused} refused of EIO at each of {operations} operations");
        assert!(refused >= 12, "{way:?}: only {refused}");
    }
}
