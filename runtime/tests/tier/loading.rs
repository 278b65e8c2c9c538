//! Shards are read when they are asked for first: who gives up or meets damage keeps nobody else waiting.

use super::{bytes_of, digest_of, disk, filled, flip, open_one, plan, segment};
use crate::on_column::on_column;
use runtime::io::Io;
use runtime::oneshot::Oneshot;
use runtime::shards::ShardMap;
use runtime::tier::{Names, Plan, Shard, recover_all};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

const PATIENCE_MS: u32 = 10_000;

/// A client that goes away while its request reads a shard leaves it to others.
#[test]
fn a_shard_whose_reader_gave_up_is_read_by_who_asks_next() {
    let (_dir, root) = filled();
    on_column(move |column| {
        let root = root.clone();
        async move {
            let (disks, map) = ([disk(&column, &root).await], ShardMap::new(1));
            let part = recover_all(&column.io, &disks, map).await.expect("recovers").remove(0);
            let tier = Shard::new(column.io.clone(), plan(&column, &disks, map, 0), part);
            let digest = digest_of(&bytes_of(1, 5001));
            {
                let mut gives_up = std::pin::pin!(tier.load(&digest));
                let cx = &mut Context::from_waker(Waker::noop());
                assert!(gives_up.as_mut().poll(cx).is_pending(), "it reads the disk");
            }
            let (done, loaded) = Oneshot::new();
            let loads = tier.clone();
            column.io.spawn("loads", async move { done.set(loads.load_all().await.is_ok()) });
            for _ in 0..PATIENCE_MS {
                if tier.is_ready() {
                    break;
                }
                column.io.sleep(1_000_000).await;
            }
            assert!(tier.is_ready(), "it is never read");
            assert!(loaded.await);
            assert!(tier.get(&digest).await.expect("readable").is_some());
        }
    });
}

/// The files of a shard that cannot be read are left alone, whoever asks for it how often; nobody waits for it.
#[test]
fn a_checkpoint_that_cannot_be_read_costs_no_file_and_keeps_nobody_waiting() {
    let (_dir, root) = filled();
    let large = digest_of(&bytes_of(9, 3_000_000));
    let close = root.clone();
    on_column(move |column| {
        let root = close.clone();
        async move {
            let tier = open_one(&column, &root).await;
            assert!(
                tier.delete(digest_of(&bytes_of(1, 5001))).await.expect("deleted"),
                "there is news to write down"
            );
            tier.close().await;
        }
    });
    let checkpoint = segment(&root, "checkpoint-");
    let at = std::fs::read(&checkpoint).expect("reads").windows(32).position(|w| w == large.0);
    flip(&checkpoint, at.expect("it is listed"));
    on_column(move |column| {
        let root = root.clone();
        async move {
            let disks = [disk(&column, &root).await];
            let (stopped, map) = (Arc::new(Mutex::new(Vec::new())), ShardMap::new(2));
            let mut columns = Vec::new();
            for (index, part) in
                recover_all(&column.io, &disks, map).await.expect("recovers").into_iter().enumerate()
            {
                let reasons = stopped.clone();
                let on_stop = Rc::new(move |reason| reasons.lock().expect("not poisoned").push(reason));
                let plan = Plan { on_stop, ..plan(&column, &disks, map, index) };
                columns.push(Shard::new(column.io.clone(), plan, part));
            }
            let owner = map.owner(large.shard());
            let (damaged, whole) = (&columns[owner], &columns[1 - owner]);
            let mut first = std::pin::pin!(damaged.load(&large));
            assert!(
                first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
                "it reads the disk"
            );
            assert!(damaged.load(&large).await.is_err() && first.await.is_err());
            assert!(damaged.load(&large).await.is_err(), "it is not read again");
            assert!(damaged.load_all().await.is_err());
            whole.load_all().await.expect("its part is whole");
            assert!(whole.ready().await.is_err() && damaged.ready().await.is_err());
            let stopped = stopped.lock().expect("not poisoned");
            assert!(stopped.len() == 1 && stopped[0].contains("checkpoint-"), "said once: {stopped:?}");
            let file = disks[0].dir.names().object(&large);
            assert!(file.exists() && Names::sums(&file).exists(), "{} is gone", file.display());
        }
    });
}
