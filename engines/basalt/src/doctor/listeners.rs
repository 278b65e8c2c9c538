//! The addresses that `serve` would listen on: free, or taken and by whom.
//!
//! A taken port does not count as what keeps `serve` from starting: beside a running node it is that node's.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::Line;
use crate::config::Settings;
use crate::ports;

/// One line for each listener.
pub fn report(settings: &Settings) -> Vec<Line> {
    let mut lines = vec![listener("blob-listen", settings.blob_listen)];
    if settings.slice_config().is_ok_and(|config| config.is_some()) {
        lines.push(listener("slice-listen", settings.slice.listen));
    }
    lines.push(listener("ops-listen", settings.ops_listen));
    lines
}

fn listener(key: &'static str, addr: SocketAddr) -> Line {
    match TcpListener::bind(addr) {
        Ok(_) => Line::ok(key, format!("{addr} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let fix = match ports::holder(addr) {
                Some(holder) => format!("kill {}, or name another with --{key}", holder.pid),
                None => format!("name another with --{key}"),
            };
            Line::missing(key, format!("{addr} is {}", ports::taken_by(addr)), fix)
        }
        Err(error) => {
            let detail = format!("cannot listen on {addr}: {error}");
            Line::missing(key, detail, format!("name another with --{key}")).blocking_serve()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_taken_port_is_said_to_be_and_by_whom() {
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = holder.local_addr().expect("bound");
        let line = listener("blob-listen", addr);
        assert_eq!((line.status, line.blocks_serve), (Status::Missing, false));
        assert!(line.detail.contains(&format!("(pid {})", std::process::id())), "{}", line.detail);
        drop(holder);
        assert_eq!(listener("blob-listen", addr).status, Status::Ok);
    }
}
