//! Files that the kernel is given, while their blobs go and while those who open them give up.

use super::*;
use std::io;
use std::pin::pin;
use std::task::{Context, Waker};

const OPEN: Operation<'static> = Operation::Open { flags: 0, kill_suid_sgid: false };
const SIZE_BYTES: usize = 300_000;

impl Kernel {
    /// Opens a file that the kernel was not given yet: this comes of giving it.
    async fn open_given(&self, node: u64, made: io::Result<i32>) -> Opened {
        let answer = self.answer(node, OPEN).await;
        assert!(answer.backing_file().is_some(), "it is not to be given");
        match send(self.mount.on_backing(answer, made).await) {
            Got::Opened(opened) => opened,
            other => panic!("{other:?}"),
        }
    }

    /// Of a node that is read from its open file: it was opened when the kernel could not be given it.
    async fn must_keep_its_file(&self, node: u64) {
        let opened = self.open_given(node, Err(io::ErrorKind::OutOfMemory.into())).await;
        assert_eq!(opened.backing_id, 0);
        self.release(node).await;
    }
}

/// The kernel opens by a name that it believes for some seconds, and what is kept of the node is not shed yet.
#[test]
fn a_file_whose_blob_is_deleted_is_opened_without_what_the_kernel_was_given() {
    let rig = rig(20, 2, PASSED);
    let closed = rig.closed.clone();
    rig.run(async move |io, kernels| {
        let content = content::bytes(1, SIZE_BYTES);
        let digest = put(&io, &content).await;
        let node = kernels[0].must_find(&digest).await.node;
        kernels[0].must_keep_its_file(node).await;
        assert_eq!(kernels[0].open_given(node, Ok(7)).await.backing_id, 7);
        kernels[0].release(node).await;
        delete(&io, &digest).await;
        assert!(matches!(kernels[1].open(node).await, Got::Opened(Opened { backing_id: 0, .. })));
        assert_eq!(closed.borrow().clone(), [7], "its space is to come back");
        kernels[1].must_read(node, &content, 1 << 20).await;
        kernels[1].release(node).await;
        kernels[0].forget(node, 1).await;
        assert_eq!(held(&kernels), [0; 4]);
    });
}

#[test]
fn a_file_whose_blob_is_deleted_while_the_kernel_is_given_it_is_opened_when_it_was() {
    rig(21, 2, PASSED).run(async |io, kernels| {
        let digest = put(&io, &content::bytes(1, SIZE_BYTES)).await;
        let node = kernels[0].must_find(&digest).await.node;
        kernels[0].must_keep_its_file(node).await;
        let first = kernels[0].answer(node, OPEN).await;
        delete(&io, &digest).await;
        let second: Rc<RefCell<Option<Got>>> = Rc::default();
        let (give, kernel) = (second.clone(), kernels[1].clone());
        io.spawn("open", async move { *give.borrow_mut() = Some(kernel.open(node).await) });
        io.sleep(SECOND_NS).await;
        assert_eq!(second.take(), None, "it is opened in another mode");
        let first = send(kernels[0].mount.on_backing(first, Ok(8)).await);
        assert!(matches!(first, Got::Opened(Opened { backing_id: 8, .. })));
        io.sleep(SECOND_NS).await;
        assert_eq!(second.take(), Some(first));
        kernels[0].release(node).await;
        kernels[0].release(node).await;
        kernels[0].forget(node, 1).await;
        assert_eq!(held(&kernels), [0; 4]);
    });
}

#[test]
fn who_is_interrupted_while_the_kernel_is_given_a_file_leaves_nothing() {
    for opener in 0..2 {
        rig(22, 2, PASSED).run(async move |io, kernels| {
            let digest = put(&io, &content::bytes(1, SIZE_BYTES)).await;
            let node = kernels[0].must_find(&digest).await.node;
            let kernel = &kernels[opener];
            let answer = kernel.answer(node, OPEN).await;
            {
                let interrupted = pin!(kernel.mount.on_backing(answer, Ok(7)));
                // The kernel has it, or is told EINTR instead.
                let _ = interrupted.poll(&mut Context::from_waker(Waker::noop()));
            }
            io.sleep(SECOND_NS).await;
            let [_, _, handles, backings] = held(&kernels);
            assert_eq!((handles, backings), (0, 1), "opened by column {opener}");
            assert!(matches!(kernel.open(node).await, Got::Opened(Opened { backing_id: 7, .. })));
            kernel.release(node).await;
            kernel.forget(node, 1).await;
            assert_eq!(held(&kernels), [0; 4]);
        });
    }
}

/// More opens than a column may have calls under way wait for the one that cannot say that it is done.
#[test]
fn opens_that_wait_for_each_other_end() {
    const OPENS: usize = 1100;
    for opener in 0..2 {
        rig(23, 2, PASSED).run(async move |io, kernels| {
            let digest = put(&io, &content::bytes(1, SIZE_BYTES)).await;
            let node = kernels[0].must_find(&digest).await.node;
            let kernel = &kernels[opener];
            let first = kernel.answer(node, OPEN).await;
            let ended = Rc::new(Cell::new(0));
            for _ in 0..OPENS {
                let (ended, kernel) = (ended.clone(), kernel.clone());
                io.spawn("open", async move {
                    drop(kernel.open(node).await);
                    ended.set(ended.get() + 1);
                });
            }
            io.sleep(SECOND_NS).await;
            let (mount, ended_first) = (kernel.mount.clone(), ended.clone());
            io.spawn("first", async move {
                drop(mount.on_backing(first, Ok(7)).await);
                ended_first.set(ended_first.get() + 1);
            });
            io.sleep(100 * SECOND_NS).await;
            assert_eq!(ended.get(), OPENS + 1, "opened by column {opener}");
            assert!(matches!(kernel.open(node).await, Got::Opened(_) | Got::Nothing));
        });
    }
}
