//! Origins that have something else than the blob that is asked for, of another size.

use super::*;

const CLAIMED_BYTES: usize = 20_000_000;

/// Orders the blob from an origin that has something else; `true` once that has failed.
fn order_wrong(io: &TwinIo, digest: &Digest) -> Rc<Cell<bool>> {
    let has_failed = Rc::new(Cell::new(false));
    let (tell, orderer) = (has_failed.clone(), io.clone());
    let what = serde_json::json!({ "url": origin::url(), "digest": digest.0 });
    io.spawn("order", async move {
        assert_eq!(order(&orderer, what).await.expect("an answer").status, 422);
        tell.set(true);
    });
    has_failed
}

async fn until(io: &TwinIo, is_so: &Cell<bool>) {
    while !is_so.get() {
        io.sleep(SECOND_NS / 100).await;
    }
}

/// The node that a kernel finds by its name, or in the listing.
async fn found(kernel: &Kernel, digest: &Digest, is_listed: bool) -> u64 {
    if !is_listed {
        return kernel.must_find(digest).await.node;
    }
    let (names, _) = kernel.page(0, 4096, true).await;
    names.into_iter().find(|(text, _)| *text == name(digest)).expect("it is stored").1
}

#[test]
fn a_size_that_an_origin_made_up_ends_with_its_node() {
    let cases =
        [(300_000, false, CACHED), (5_000, true, CACHED), (300_000, true, PASSED), (5_000, false, PASSED)];
    for (size, is_listed, kind) in cases {
        rig(30, 2, kind).run(async move |io, kernels| {
            origin::serve(&io, content::bytes(1, CLAIMED_BYTES), 20_000_000);
            let content = content::bytes(2, size);
            let digest = Digest::of(&content);
            let has_failed = order_wrong(&io, &digest);
            io.sleep(SECOND_NS).await;
            let claimed = kernels[0].must_find(&digest).await;
            assert_eq!(claimed.attributes.size_bytes, CLAIMED_BYTES as u64);
            assert!(matches!(kernels[1].open(claimed.node).await, Got::Opened(_)));
            until(&io, &has_failed).await;
            put(&io, &content).await;
            // By the name that it believes, and by the handle: nothing that is not the blob's.
            for at in [0, size as u64 - 4000, size as u64, CLAIMED_BYTES as u64 - 4096] {
                assert_eq!(kernels[0].read(claimed.node, at, 4096).await, Got::Error(libc::EIO), "at {at}");
            }
            assert_eq!(kernels[0].open(claimed.node).await, Got::Error(libc::ESTALE));
            let node = found(&kernels[1], &digest, is_listed).await;
            assert_ne!(node, claimed.node);
            assert_eq!(kernels[0].must_find(&digest).await.node, node);
            assert_eq!(kernels[0].must_find(&digest).await.attributes.size_bytes, size as u64);
            kernels[0].must_read(node, &content, 1 << 20).await;
            kernels[0].release(claimed.node).await;
            kernels[0].forget(claimed.node, 1).await;
            kernels[0].forget(node, 3).await;
            io.sleep(SECOND_NS).await;
            assert_eq!(held(&kernels), [0; 4], "{size} bytes");
        });
    }
}

/// It has its name again before anything else finds out that its size was wrong.
#[test]
fn a_name_that_is_looked_up_first_has_the_size_of_the_blob() {
    for (size, is_listed) in [(300_000, false), (300_000, true), (5_000, false), (5_000, true)] {
        rig(31, 2, CACHED).run(async move |io, kernels| {
            origin::serve(&io, content::bytes(1, CLAIMED_BYTES), 20_000_000);
            let content = content::bytes(2, size);
            let digest = Digest::of(&content);
            let has_failed = order_wrong(&io, &digest);
            io.sleep(SECOND_NS).await;
            let claimed = kernels[0].must_find(&digest).await.node;
            until(&io, &has_failed).await;
            put(&io, &content).await;
            let node = found(&kernels[1], &digest, is_listed).await;
            assert_ne!(node, claimed);
            let name = Operation::GetAttr { handle: None };
            let Got::Attributes(attributes) = kernels[0].ask(node, name).await else {
                panic!("no attributes")
            };
            assert_eq!(attributes.size_bytes, size as u64);
            kernels[0].must_read(node, &content, 70_000).await;
            assert_eq!(kernels[0].open(claimed).await, Got::Error(libc::ESTALE));
            kernels[0].forget(claimed, 1).await;
            kernels[0].forget(node, 1).await;
            assert_eq!(held(&kernels)[..3], [0; 3], "{size} bytes");
        });
    }
}

/// What was the blob's stays so: a handle is read to its end.
#[test]
fn a_wrong_origin_takes_nothing_from_who_has_the_blob_open() {
    for size in [300_000, 5_000] {
        rig(32, 2, CACHED).run(async move |io, kernels| {
            origin::serve(&io, content::bytes(1, CLAIMED_BYTES), 20_000_000);
            let content = content::bytes(2, size);
            let digest = put(&io, &content).await;
            let node = kernels[0].must_find(&digest).await.node;
            let Got::Opened(opened) = kernels[1].open(node).await else { panic!("not opened") };
            delete(&io, &digest).await;
            let has_failed = order_wrong(&io, &digest);
            io.sleep(SECOND_NS).await;
            let claimed = kernels[0].must_find(&digest).await;
            assert_eq!(claimed.attributes.size_bytes, CLAIMED_BYTES as u64);
            assert_ne!(claimed.node, node);
            kernels[0].must_read(node, &content, 4096).await;
            until(&io, &has_failed).await;
            kernels[1].must_read(node, &content, 4096).await;
            kernels[1].release_handle(node, opened.handle).await;
            kernels[0].forget(node, 1).await;
            kernels[0].forget(claimed.node, 1).await;
            io.sleep(30 * SECOND_NS).await;
            assert_eq!(held(&kernels), [0; 4], "{size} bytes");
        });
    }
}
