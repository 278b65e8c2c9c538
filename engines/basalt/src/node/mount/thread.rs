//! The last rung: one thread reads the device and hands the requests to the columns in turn.
//!
//! Called by `serve` for the transport `thread`. For kernels and containers where a device cannot be cloned; each
//! request costs a wake-up more. A column that does not keep up holds the thread back.

use super::Connection;
use super::patience::Patience;
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
use std::time::{Duration, Instant};

/// Requests handed to a column that it has not taken yet.
const WAITING_MAX: usize = 64;

/// What the thread hands over, and how it wakes a column.
pub(super) struct Inlets {
    columns: Vec<Inlet>,
    is_started: AtomicBool,
}

struct Inlet {
    /// Taken by the thread: the column sees by it that the thread has ended.
    send: Mutex<Option<SyncSender<Vec<u8>>>>,
    /// Taken by its column.
    receive: Mutex<Option<Receiver<Vec<u8>>>>,
    bell: Arc<OwnedFd>,
}

impl Inlets {
    pub(super) fn new(columns: usize) -> io::Result<Inlets> {
        let inlet = || {
            let (send, receive) = sync_channel(WAITING_MAX);
            let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            Ok(Inlet { send: Mutex::new(Some(send)), receive: Mutex::new(Some(receive)), bell })
        };
        let columns = (0..columns).map(|_| inlet()).collect::<io::Result<_>>()?;
        Ok(Inlets { columns, is_started: AtomicBool::new(false) })
    }
}

pub(super) fn start(served: &Rc<Served>, column: usize) -> io::Result<()> {
    let inlets = served.connection.ladder.inlets();
    if !inlets.is_started.swap(true, Ordering::AcqRel) {
        read_in_a_thread(&served.connection, &inlets)?;
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
        me.on_ended(Ok(()));
    });
    Ok(())
}

/// False when the thread has ended and all that it handed over is taken.
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

fn read_in_a_thread(connection: &Connection, inlets: &Inlets) -> io::Result<()> {
    let (device, pulse, number) = (connection.device.clone(), connection.pulse.clone(), connection.number);
    let buffer = vec![0; connection.agreed.read_buffer_bytes()];
    let outlets: Vec<_> = inlets.columns.iter().map(Outlet::of).collect();
    let read = move || {
        if let Err(error) = hand_over(&device, buffer, &outlets) {
            pulse.lose(number, &error);
        }
    };
    std::thread::Builder::new().name("mount".into()).spawn(read)?;
    Ok(())
}

/// Until the end of the connection, or of a column: then the node ends.
fn hand_over(device: &Device, mut buffer: Vec<u8>, outlets: &[Outlet]) -> io::Result<()> {
    for outlet in outlets.iter().cycle() {
        let Some(length) = receive(device, &mut buffer)? else { break };
        let send = outlet.send.as_ref().expect("until it is dropped");
        if send.send(buffer[..length].to_vec()).is_err() {
            break;
        }
        ring(&outlet.bell);
    }
    Ok(())
}

/// The thread's end of an inlet.
struct Outlet {
    send: Option<SyncSender<Vec<u8>>>,
    bell: Arc<OwnedFd>,
}

impl Outlet {
    fn of(inlet: &Inlet) -> Outlet {
        let send = inlet.send.lock().expect("nobody panics with it").take();
        Outlet { send: Some(send.expect("one thread a connection")), bell: inlet.bell.clone() }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // First that, so that the column finds it when it looks.
        self.send = None;
        ring(&self.bell);
    }
}

/// The length of the next request; `None` at the end of the connection.
fn receive(device: &Device, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let (begin, mut patience) = (Instant::now(), Patience::default());
    loop {
        match device.receive(buffer) {
            Ok(Received::Request(length)) => return Ok(Some(length)),
            Ok(Received::Nothing | Received::Ended) => return Ok(None),
            Err(error) => {
                let pause_ns = patience.on_error(&error, begin.elapsed().as_nanos() as u64);
                std::thread::sleep(Duration::from_nanos(pause_ns.ok_or(error)?));
            }
        }
    }
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
