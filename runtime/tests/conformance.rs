//! What the seam promises, held against both of its implementors: the ring and the twin. Every check is written once, generic
//! over `Io`, and runs as `ring::<check>` and `twin::<check>`, so that nothing hides between the two.

#[path = "conformance/files.rs"]
mod files;
#[path = "conformance/machine.rs"]
mod machine;
#[path = "conformance/streams.rs"]
mod streams;

use runtime::column::{Body, Column, Plan, start};
use runtime::io::Io;
use runtime::mesh::Doorbell;
use runtime::ring::RingIo;
use runtime::twin::{FaultPlan, Twin, TwinIo};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

const ARENA_BYTES: usize = 32 << 20;
/// Simulated time that a check may take.
const LIMIT_NS: u64 = 60_000_000_000;
const SEEDS: u64 = 8;

/// Where a check runs.
struct Place<I: Io> {
    io: I,
    /// An empty directory of its own.
    dir: PathBuf,
    /// An address that nobody listens on.
    addr: SocketAddr,
}

/// Runs a check on a column of the real machine.
fn on_ring<F>(check: impl Fn(Rc<Place<RingIo>>) -> F + Clone + Send + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let base = std::env::var_os("BASALT_TEST_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let dir = tempfile::tempdir_in(base).expect("a directory on a disk");
    let path = dir.path().to_owned();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = free.local_addr().expect("bound");
    drop(free);
    let plan = Plan { cpus: vec![0], arena_bytes: ARENA_BYTES, spin_ns: 0 };
    let (send, outcome) = std::sync::mpsc::channel();
    let columns = start(&plan, vec![Arc::new(Doorbell::new().expect("eventfd"))], move |column| {
        let work = check(Rc::new(Place { io: column.io.clone(), dir: path.clone(), addr }));
        let send = send.clone();
        async move {
            let body: Body = Box::pin(async move {
                work.await;
                let _ = send.send(());
            });
            Ok(body)
        }
    });
    let columns = columns.expect("the column starts");
    // A check that panics takes its column with it: nothing is sent.
    outcome.recv().expect("the check holds");
    columns.join();
}

/// Runs a check on a simulated column, with several seeds.
fn on_twin<F>(check: impl Fn(Rc<Place<TwinIo>>) -> F + Clone + 'static)
where
    F: Future<Output = ()> + 'static,
{
    for seed in 0..SEEDS {
        let mut twin = Twin::new(seed, 1 << 30, FaultPlan::none());
        let check = check.clone();
        let mut node = twin.start(1, ARENA_BYTES, move |column: Column<TwinIo>| {
            let addr = "127.0.0.1:9000".parse().expect("an address");
            let work = check(Rc::new(Place { io: column.io, dir: PathBuf::from("/"), addr }));
            async move {
                work.await;
                Ok(Box::pin(async {}) as Body)
            }
        });
        twin.run_until(LIMIT_NS, || {
            node.watch();
            node.is_running()
        });
        node.kill();
    }
}

macro_rules! checks {
    ($($room:ident :: $check:ident),* $(,)?) => {
        mod ring {
            $(#[test] fn $check() { super::on_ring(super::$room::$check); })*
        }
        mod twin {
            $(#[test] fn $check() { super::on_twin(super::$room::$check); })*
        }
    };
}

checks!(
    files::whole_transfers_and_the_end_of_the_file,
    files::errors_have_their_numbers,
    files::an_unlinked_file_lives_as_long_as_it_is_open,
    files::renaming_replaces,
    files::directories_are_made_once_and_list_their_files,
    files::space_is_reserved_and_cut,
    files::dropped_operations_keep_their_buffers,
    files::dropped_reads_spoil_nobodys_memory,
    files::awaited_writes_are_before_later_reads,
    files::writes_together_stay_apart,
    files::writes_that_are_synced_are_there,
    streams::bytes_arrive_in_order_and_end,
    streams::receiving_into_a_buffer_mixes_with_chunks,
    streams::one_way_can_end_before_the_other,
    streams::a_dropped_receive_loses_nothing,
    streams::an_end_comes_behind_all_that_was_sent,
    streams::a_peer_that_resets_ends_a_send,
    streams::a_hangup_ends_a_receive,
    streams::a_hangup_ends_a_send,
    streams::who_leaves_bytes_unread_resets,
    streams::it_is_seen_whether_anything_came,
    streams::nobody_listens_is_refused,
    machine::sleepers_wake_in_order,
    machine::tasks_take_turns,
    machine::memory_runs_out_and_comes_back,
    machine::misaligned_io_panics,
);

fn file_in(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}
