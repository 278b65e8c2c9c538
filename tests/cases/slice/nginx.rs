//! nginx as the origin: random ranges, byte for byte.

use super::MIB;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tests::content;
use tests::http::{Conn, Request};
use tests::node::{Setup, free_addr};
use tests::scale;

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start(setup: &Setup, addr: std::net::SocketAddr) -> Nginx {
    let home = setup.path("nginx");
    fs::create_dir_all(home.join("files")).expect("a directory");
    let dir = home.display();
    let conf = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/log;\nevents {{}}\nhttp {{ access_log off; \
         client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c; uwsgi_temp_path {dir}/d; \
         scgi_temp_path {dir}/e; server {{ listen {addr}; root {dir}/files; add_header Cache-Control max-age=3600; }} }}\n"
    );
    fs::write(home.join("conf"), conf).expect("written");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(home.join("conf")).arg("-e").arg(home.join("log")).stdin(Stdio::null());
    let nginx = Nginx(command.spawn().expect("nginx is installed"));
    for _ in 0..500 {
        if Conn::try_open(addr).is_ok() {
            return nginx;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("nginx does not listen on {addr}");
}

#[test]
fn random_ranges_are_those_of_nginx() {
    let addr = free_addr();
    let setup = Setup::new().origin(&format!("http://{addr}"));
    let _nginx = start(&setup, addr);
    let sizes = [1000, 700_000, 6 * MIB + 13, 30 * MIB + 1];
    let bodies: Vec<Vec<u8>> =
        sizes.iter().enumerate().map(|(at, &size)| content::bytes(at as u64, size)).collect();
    for (at, body) in bodies.iter().enumerate() {
        fs::write(setup.path(&format!("nginx/files/f{at}")), body).expect("written");
    }
    // Last-Modified a second old or more: without, a change within that second would not show.
    thread::sleep(Duration::from_millis(1100));
    let node = setup.start();
    let seed = content::run_seed();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (node, bodies) = (&node, &bodies);
            scope.spawn(move || {
                let mut random = content::Rng::new(seed ^ worker);
                let mut conn = node.slice();
                for _ in 0..scale::count("BASALT_SLICE_RANGES", 2000) / 8 {
                    let at = random.below(bodies.len() as u64) as usize;
                    let (body, size) = (&bodies[at], bodies[at].len() as u64);
                    let from = random.below(size);
                    let to = (from + 1 + random.below(300_000)).min(size);
                    let range = format!("bytes={from}-{}", to - 1);
                    let request = Request::new("GET", format!("/f{at}")).header("Range", range.clone());
                    let reply = conn.call(&request).must_be(206);
                    assert!(reply.body == body[from as usize..to as usize], "/f{at} {range} seed {seed}");
                }
            });
        }
    });
}
