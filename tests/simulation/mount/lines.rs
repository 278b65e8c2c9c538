//! What the log says of requests that fail: a line for each blob, with its name.

use super::*;
use std::io::Write;
use std::sync::Mutex;
use tracing_subscriber::util::SubscriberInitExt;

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Lines about requests that failed, with these words.
    fn lines(&self, words: &str) -> usize {
        let text = String::from_utf8(self.0.lock().expect("one thread").clone()).expect("text");
        let is_one = |line: &&str| line.contains("a request of a mount failed") && line.contains(words);
        text.lines().filter(is_one).count()
    }
}

/// Runs a test and gives it what is logged meanwhile.
fn with_log(test: impl FnOnce(Log)) {
    let log = Log::default();
    let writer = log.clone();
    let _logging = tracing_subscriber::fmt().with_writer(move || writer.clone()).set_default();
    test(log);
}

#[test]
fn every_name_that_cannot_be_looked_up_has_its_line() {
    with_log(|log| {
        rig(50, 1, CACHED).run(async move |io, kernels| {
            origin::serve(&io, content::bytes(1, 300_000), 3600 * SECOND_NS);
            let digests = [2, 3].map(|seed| Digest::of(&content::bytes(seed, 300_000)));
            for digest in &digests {
                let (orderer, what) =
                    (io.clone(), serde_json::json!({ "url": origin::url(), "digest": digest.0 }));
                io.spawn("order", async move { drop(order(&orderer, what).await) });
            }
            io.sleep(SECOND_NS).await;
            let ended = Rc::new(Cell::new(0));
            for digest in [&digests[0], &digests[1], &digests[0]] {
                let (kernel, digest, ended) = (kernels[0].clone(), digest.clone(), ended.clone());
                io.spawn("lookup", async move {
                    assert_eq!(kernel.lookup(&digest).await, Got::Error(libc::EIO));
                    ended.set(ended.get() + 1);
                });
            }
            io.sleep(20 * SECOND_NS).await;
            assert_eq!(ended.get(), 3);
            for digest in &digests {
                assert_eq!(log.lines(name(digest).as_str()), 1, "lines of {digest:?}");
            }
        });
    });
}

#[test]
fn a_request_that_is_not_answered_in_time_has_a_line_with_its_blob() {
    with_log(|log| {
        rig(51, 2, CACHED).run(async move |io, kernels| {
            let digest = put(&io, &content::bytes(1, 300_000)).await;
            let node = kernels[0].must_find(&digest).await.node;
            let mut late = 0;
            for (n, kernel) in (0..).zip(&kernels) {
                let (unique, uid, gid, pid, opcode, extensions) = (2, 0, 0, 0, 0, &[][..]);
                let operation = Operation::Read(read(n << 16, 4096));
                let request = Request { unique, node, uid, gid, pid, opcode, operation, extensions };
                // Its column comes to it too late to hear of the disk.
                let Begun::Later(later) = kernel.mount.begin(&request) else { continue };
                io.sleep(60 * SECOND_NS).await;
                assert!(send(kernel.mount.finish(later).await) == Got::Error(libc::EIO));
                late += 1;
            }
            io.sleep(2 * SECOND_NS).await;
            assert!(late > 0, "all of it is in RAM");
            assert_eq!(log.lines(name(&digest).as_str()), late);
        });
    });
}
