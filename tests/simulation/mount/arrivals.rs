//! Blobs that arrive while the node is short of something.

use super::*;
use runtime::buffer::Buffer;

/// All of a column's memory for buffers, of every class.
fn all_buffers(io: &TwinIo) -> Vec<Buffer> {
    let classes = [16 << 20, 4 << 20, 1 << 20, 256 << 10, 64 << 10, 16 << 10, 4096];
    classes.into_iter().flat_map(|len| std::iter::from_fn(move || io.buffer(len))).collect()
}

#[test]
fn a_read_of_a_blob_on_its_way_waits_for_memory() {
    rig(40, 2, CACHED).run(async |io, kernels| {
        let content = content::bytes(1, 20_000_000);
        let pause_ns = Rc::new(Cell::new(20_000_000));
        origin::serve_paced(&io, content.clone(), pause_ns.clone());
        let digest = expired(&io).await;
        let node = kernels[0].must_find(&digest).await.node;
        assert!(matches!(kernels[1].open(node).await, Got::Opened(_)));
        assert!(kernels[1].read(node, 0, 4096).await == Got::Data(content[..4096].to_vec()));
        // The fetch needs none meanwhile.
        pause_ns.set(8 * SECOND_NS);
        io.sleep(SECOND_NS / 10).await;
        let taken: Vec<_> = kernels.iter().map(|kernel| all_buffers(&kernel.io)).collect();
        assert!(taken.iter().all(|buffers| !buffers.is_empty()));
        let begun_ns = io.now_ns();
        io.spawn("give back", {
            let io = io.clone();
            async move {
                io.sleep(SECOND_NS).await;
                drop(taken);
            }
        });
        let got = kernels[1].read(node, 65_536, 4096).await;
        assert!(got == Got::Data(content[65_536..69_632].to_vec()), "not these bytes, or an error");
        assert!(io.now_ns() - begun_ns >= SECOND_NS, "there was memory: this test shows nothing");
        pause_ns.set(0);
        kernels[0].release(node).await;
        kernels[0].forget(node, 1).await;
    });
}
