//! Who holds a TCP port: from the kernel's table of sockets to the process that has it open.
//!
//! Best effort: other users' descriptors cannot be read, so a holder may stay unknown.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// State LISTEN in `/proc/net/tcp` (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name as the kernel shortens it.
    pub command: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// Says by whom `addr` is taken, as the end of a sentence: `taken by nginx (pid 7)`.
pub fn taken_by(addr: SocketAddr) -> String {
    match holder(addr) {
        Some(holder) => format!("taken by {holder}"),
        None => "taken by a process that we may not see".to_owned(),
    }
}

/// The process that listens where `addr` would, if it can be found.
pub fn holder(addr: SocketAddr) -> Option<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inodes: Vec<u64> = tables.iter().flatten().flat_map(|table| listening_inodes(table, addr)).collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.map(|entry| entry.path()).find_map(|dir| holder_in(&dir, &inodes))
}

/// The process whose `/proc` directory is `dir`, if it has one of the sockets open.
fn holder_in(dir: &Path, inodes: &[u64]) -> Option<Holder> {
    let pid = dir.file_name()?.to_str()?.parse().ok()?;
    let mut targets = fs::read_dir(dir.join("fd")).ok()?.flatten();
    let is_held = targets.any(|fd| {
        let target = fs::read_link(fd.path()).ok();
        let inode = target.as_deref().and_then(Path::to_str).and_then(parse_socket_link);
        inode.is_some_and(|inode| inodes.contains(&inode))
    });
    let command = fs::read_to_string(dir.join("comm")).unwrap_or_default();
    is_held.then(|| Holder { pid, command: command.trim_end().to_owned() })
}

/// `socket:[12345]`, where a descriptor of a socket points.
fn parse_socket_link(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Inodes of listening sockets in a table that would keep us from listening on `addr`.
fn listening_inodes(table: &str, addr: SocketAddr) -> Vec<u64> {
    let rows = table.lines().skip(1).filter_map(parse_listener);
    rows.filter(|(local, _)| is_in_the_way(*local, addr)).map(|(_, inode)| inode).collect()
}

/// Same port, and the same address or either of them every address.
fn is_in_the_way(local: SocketAddr, addr: SocketAddr) -> bool {
    let (local_ip, ip) = (local.ip().to_canonical(), addr.ip().to_canonical());
    local.port() == addr.port() && (local_ip == ip || local_ip.is_unspecified() || ip.is_unspecified())
}

/// A row: slot, local address, remote address, state, queues, timer, retransmits, uid, timeout, inode.
fn parse_listener(row: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = row.split_whitespace().take(10).collect();
    let [_, local, _, state, .., inode] = fields.as_slice() else {
        return None;
    };
    if *state != LISTEN || fields.len() < 10 {
        return None;
    }
    Some((parse_addr(local)?, inode.parse().ok()?))
}

/// `0100007F:2328`: the address as words of 32 bits in the machine's order, the port as a number.
fn parse_addr(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words: Vec<u32> = ip
        .as_bytes()
        .chunks(8)
        .map(|hex| u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok())
        .collect::<Option<_>>()?;
    let ip = match *words.as_slice() {
        [word] => IpAddr::from(Ipv4Addr::from(word.to_ne_bytes())),
        [_, _, _, _] => {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:2328 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000001000000:2328 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4714 1 0 100 0 0 10 0
";

    fn addr(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_in_the_way_are_found_by_inode() {
        assert_eq!(listening_inodes(TCP, addr("127.0.0.1:9000")), [4711]);
        assert_eq!(listening_inodes(TCP, addr("0.0.0.0:9000")), [4711]);
        assert_eq!(listening_inodes(TCP, addr("127.0.0.1:22")), [4713]);
        assert!(listening_inodes(TCP, addr("127.0.0.2:9000")).is_empty());
        assert_eq!(listening_inodes(TCP6, addr("[::1]:9000")), [4714]);
        assert!(listening_inodes("header\ngarbage\n\n", addr("127.0.0.1:1")).is_empty());
    }

    #[test]
    fn links_of_sockets_carry_the_inode() {
        assert_eq!(parse_socket_link("socket:[4711]"), Some(4711));
        assert_eq!(parse_socket_link("/dev/null"), None);
    }

    #[test]
    fn our_own_listener_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let held = holder(listener.local_addr().expect("bound")).expect("held by us");
        assert_eq!(held.pid, std::process::id());
    }
}
