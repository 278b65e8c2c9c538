//! A thread that asks the kernel to forget names which nobody uses, so that what we know of them stays within its memory: the
//! kernel keeps names for as long as *it* has memory.
//!
//! Called by `connect`, and by the columns through `Hooks::prune`. A thread of its own, as the kernel takes locks for this that a
//! request may hold which waits for a column. Invariant: of a column at most one batch is under way, so that nothing queues.

use blobcache::mount::tree::SHA256;
use fuse_lowlevel::device::{Device, Sent};
use fuse_lowlevel::notify;
use runtime::tier::Digest;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The first version of the protocol that can name nodes instead of names.
const PRUNE_MINOR_MIN: u32 = 45;

/// What is sent to the thread.
struct Batch {
    column: usize,
    nodes: Vec<(u64, Digest)>,
}

/// The way to the thread, which ends with it.
pub(super) struct Pruner {
    send: SyncSender<Batch>,
    /// Of each column: the thread is at its batch.
    is_busy: Arc<[AtomicBool]>,
}

impl Pruner {
    pub(super) fn start(device: Arc<Device>, minor: u32, columns: usize) -> io::Result<Pruner> {
        let (send, batches) = sync_channel(columns);
        let is_busy: Arc<[AtomicBool]> = (0..columns).map(|_| AtomicBool::new(false)).collect();
        let done = is_busy.clone();
        let run = move || serve(&device, minor >= PRUNE_MINOR_MIN, &batches, &done);
        std::thread::Builder::new().name("mount-prune".into()).spawn(run)?;
        Ok(Pruner { send, is_busy })
    }

    /// Takes some of `nodes`, unless it is still at those that it took before from this column.
    pub(super) fn prune(&self, column: usize, nodes: &mut dyn Iterator<Item = (u64, Digest)>) {
        if self.is_busy[column].swap(true, Ordering::AcqRel) {
            return;
        }
        let nodes = nodes.take(notify::PRUNE_MAX).collect();
        let is_sent = self.send.try_send(Batch { column, nodes }).is_ok();
        assert!(is_sent, "there is room for a batch of each column, and the thread outlives us");
    }
}

fn serve(device: &Device, mut by_node: bool, batches: &Receiver<Batch>, is_busy: &[AtomicBool]) {
    while let Ok(Batch { column, nodes }) = batches.recv() {
        if by_node && let Err(error) = prune_nodes(device, &nodes) {
            tracing::info!(%error, "the kernel does not take nodes to forget: it is told their names");
            by_node = false;
        }
        if !by_node {
            prune_names(device, &nodes);
        }
        is_busy[column].store(false, Ordering::Release);
    }
}

fn prune_nodes(device: &Device, nodes: &[(u64, Digest)]) -> io::Result<Sent> {
    let ids: Vec<u64> = nodes.iter().map(|&(node, _)| node).collect();
    device.send(&notify::prune(&ids), &[])
}

/// The plain names only: those with a suffix stay until their time is over.
fn prune_names(device: &Device, nodes: &[(u64, Digest)]) {
    for (_, digest) in nodes {
        if let Err(error) = device.send(&notify::inval_entry(SHA256, &digest.hex()), &[]) {
            tracing::debug!(%digest, %error, "the kernel was not told to forget a name");
        }
    }
}
