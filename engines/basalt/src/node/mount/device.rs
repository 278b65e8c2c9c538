//! Requests by a cloned `/dev/fuse` of this column, polled by its ring and never waited in.
//!
//! Called by `serve` for the transport `clone`, and for what does not come over rings.

use super::serve::{Served, Target};
use fuse_lowlevel::Request;
use fuse_lowlevel::device::{Device, Received};
use runtime::io::Io;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

/// Requests answered before other work of the column gets its turn.
const BATCH: usize = 16;

/// Serves a device that never waits and that no other column reads.
pub(super) fn start(served: &Rc<Served>, device: Arc<Device>) {
    let me = served.clone();
    served.io.spawn("mount-device", async move {
        let ended = me.persist(async || serve(&me, &device).await).await;
        me.on_ended(ended);
    });
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
