//! Requests under mutation, over either transport, with the header's length repaired. See `mutation`.

use crate::golden::all;
use fuse_lowlevel::Request;
use fuse_lowlevel::operation::Operation;
use mutation::fuzz;

fn requests() -> Vec<Vec<u8>> {
    all().into_iter().map(|(_, bytes)| bytes).collect()
}

fn repair(input: &mut [u8]) {
    let len = (input.len() as u32).to_ne_bytes();
    if let Some(field) = input.get_mut(..4) {
        field.copy_from_slice(&len);
    }
}

/// What an engine relies on.
fn check(request: &Request, bytes: &[u8]) {
    use Operation::*;
    let name = |name: &[u8]| assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
    match request.operation {
        Lookup { name: one } | Unlink { name: one } | RmDir { name: one } | MkDir { name: one, .. } => {
            name(one)
        }
        MkNod { name: one, .. } | Link { name: one, .. } => name(one),
        Rename { name: one, into_name, .. } => {
            name(one);
            name(into_name);
        }
        Write(write) => assert!(write.data.len() < bytes.len()),
        BatchForget(forgotten) => {
            let said = forgotten.len();
            assert_eq!(forgotten.count(), said);
        }
        RemoveMapping(removed) => assert!(removed.len() * 16 < bytes.len()),
        _ => {}
    }
}

#[test]
fn requests_of_the_device() {
    fuzz(
        "request",
        &requests(),
        |input| repair(input),
        |bytes| {
            let parsed = Request::parse_whole(bytes);
            if let Ok(request) = &parsed {
                check(request, bytes);
            }
            parsed.is_ok()
        },
    );
}

/// The argument's area is taken from the same bytes, so that it lies.
#[test]
fn requests_of_a_ring() {
    let rings: Vec<Vec<u8>> = requests()
        .iter()
        .map(|bytes| {
            let mut ring = bytes.clone();
            ring.resize(bytes.len().max(40 + 128), 0);
            // All in the argument, nothing in the payload: where a name is needed, a payload of its own.
            ring.extend_from_slice(b"name\0");
            ring
        })
        .filter(|ring| parse_ring(ring))
        .collect();
    assert!(rings.len() > 5, "{}", rings.len());
    fuzz("ring", &rings, |_| {}, parse_ring);
}

fn parse_ring(bytes: &[u8]) -> bool {
    let header = &bytes[..bytes.len().min(40)];
    let argument = bytes.get(40..168).unwrap_or(&[]);
    let parsed = Request::parse(header, argument, bytes.get(168..).unwrap_or(&[]));
    if let Ok(request) = &parsed {
        check(request, bytes);
    }
    parsed.is_ok()
}
