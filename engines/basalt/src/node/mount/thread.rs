//! The last rung: one thread reads the device and hands the requests to the columns in turn.
//!
//! Called by `serve::attach` for the transport `thread`. For kernels and containers where a device cannot be cloned; each
//! request costs a wake-up more. A column that does not keep up holds the thread back.

use super::Connection;
use super::serve::{Served, Target};
use fuse_lowlevel::Request;
use fuse_lowlevel::device::{Device, Received};
use runtime::io::Io;
use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// Requests handed to a column that it has not taken yet.
const WAITING_MAX: usize = 64;

/// What the thread hands over, and how it wakes a column.
pub(super) struct Inlets {
    columns: Vec<Inlet>,
    is_started: AtomicBool,
}

struct Inlet {
    send: SyncSender<Vec<u8>>,
    /// Taken by its column.
    receive: Mutex<Option<Receiver<Vec<u8>>>>,
    bell: Arc<OwnedFd>,
}

impl Inlets {
    pub(super) fn new(columns: usize) -> io::Result<Inlets> {
        let inlet = || {
            let (send, receive) = sync_channel(WAITING_MAX);
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            Ok(Inlet { send, receive: Mutex::new(Some(receive)), bell })
        };
        let columns = (0..columns).map(|_| inlet()).collect::<io::Result<_>>()?;
        Ok(Inlets { columns, is_started: AtomicBool::new(false) })
    }
}

pub(super) fn start(served: &Rc<Served>, column: usize) -> io::Result<()> {
    let inlets = served.connection.inlets.clone().expect("this transport has them");
    if !inlets.is_started.swap(true, Ordering::AcqRel) {
        read_in_a_thread(&served.connection, inlets.clone())?;
    }
    let inlet = &inlets.columns[column];
    let requests = inlet.receive.lock().expect("nobody panics with it").take().expect("once a column");
    let (me, bell, device) = (served.clone(), inlet.bell.clone(), served.connection.device.clone());
    served.io.spawn("mount-inlet", async move {
        while me.until_stopped(me.io.readable(bell.clone())).await.is_some() {
            hush(&bell);
            if !take(&me, &requests, &device).await {
                break;
            }
        }
        me.on_ended();
    });
    Ok(())
}

/// False when the thread has ended.
async fn take(served: &Rc<Served>, requests: &Receiver<Vec<u8>>, device: &Arc<Device>) -> bool {
    loop {
        match requests.try_recv() {
            Ok(bytes) => {
                let step = served.begin(Request::parse_whole(&bytes));
                served.go_on(step, Target::Device(device.clone()));
                served.io.yield_now().await;
            }
            Err(std::sync::mpsc::TryRecvError::Empty) => return true,
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
        }
    }
}

fn read_in_a_thread(connection: &Connection, inlets: Arc<Inlets>) -> io::Result<()> {
    let device = connection.device.clone();
    let mut buffer = vec![0; connection.agreed.read_buffer_bytes()];
    let senders: Vec<_> =
        inlets.columns.iter().map(|inlet| (inlet.send.clone(), inlet.bell.clone())).collect();
    let read = move || {
        for (send, bell) in senders.iter().cycle() {
            let length = match device.receive(&mut buffer) {
                Ok(Received::Request(length)) => length,
                Ok(Received::Nothing | Received::Ended) => return,
                Err(error) => {
                    tracing::error!(%error, "a mount is served no more: the device cannot be read");
                    return;
                }
            };
            // The column is gone at the end of the node.
            if send.send(buffer[..length].to_vec()).is_err() {
                return;
            }
            ring(bell);
        }
    };
    std::thread::Builder::new().name("mount".into()).spawn(read)?;
    Ok(())
}

/// Makes the column's descriptor readable.
pub(super) fn ring(bell: &OwnedFd) {
    // Full: it is readable already.
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// Makes it unreadable, before what it announced is taken.
pub(super) fn hush(bell: &OwnedFd) {
    let _ = rustix::io::read(bell, &mut [0; 8]);
}
