//! Requests by a cloned `/dev/fuse` of this column, polled by its ring and never waited in.
//!
//! Called by `serve::attach` for the transport `clone`, and by `rings` for what does not come over rings.

use super::serve::{Served, Target};
use fuse_lowlevel::Request;
use fuse_lowlevel::device::{Device, Received};
use runtime::io::Io;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// Requests answered before other work of the column gets its turn.
const BATCH: usize = 16;

/// A queue of this column's own.
pub(super) fn start_clone(served: &Rc<Served>) -> io::Result<()> {
    start(served, served.connection.device.clone_queue()?)
}

/// Serves a device that no other column reads.
pub(super) fn start(served: &Rc<Served>, device: Device) -> io::Result<()> {
    device.set_nonblocking()?;
    let (me, device) = (served.clone(), Arc::new(device));
    served.io.spawn("mount-device", async move {
        let ended = me.persist(async || serve(&me, &device).await).await;
        me.on_ended(ended);
    });
    Ok(())
}

async fn serve(served: &Rc<Served>, device: &Arc<Device>) -> io::Result<()> {
    let mut buffer = vec![0; served.connection.agreed.read_buffer_bytes()];
    let mut batch = 0;
    while !served.is_stopping() {
        match device.receive(&mut buffer)? {
            Received::Request(length) => {
                let step = served.begin(Request::parse_whole(&buffer[..length]));
                served.go_on(step, Target::Device(device.clone()));
                batch += 1;
                if batch == BATCH {
                    batch = 0;
                    served.io.yield_now().await;
                }
            }
            Received::Nothing => {
                batch = 0;
                if let Some(readable) = served.until_stopped(served.io.readable(device.clone())).await {
                    readable?;
                }
            }
            Received::Ended => return Ok(()),
        }
    }
    Ok(())
}
