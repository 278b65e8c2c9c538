//! The mount's answers on columns of the twin: what the kernel would ask, put to any column, without a kernel. The node around it
//! is the tier, the engine and its HTTP listener, by which blobs come and go.

mod arrivals;
mod lines;
mod opens;
mod sizes;

use crate::boot::{self, blob_addr};
use crate::client::{Client, Reply as Answered};
use crate::origin;
use basalt::node::{self, DirPlan, Opened as Disks};
use blobcache::api::{Reply as OwnerReply, Request as OwnerRequest};
use blobcache::fetch::Fetches;
use blobcache::metrics::Metrics;
use blobcache::mount::nodes::Hooks;
use blobcache::mount::{Answer, Begun, Kind, Looks, Mount, Options, tree};
use blobcache::{BlobService, Columns, Limits, Owner, Seen};
use fuse_lowlevel::operation::{Read, Release};
use fuse_lowlevel::{Attributes, Entry, Opened, Operation, Reply, Request, Timestamp};
use net::Server;
use net::client::{Client as OriginClient, Trust};
use runtime::budget::Budget;
use runtime::call::{Letter, letters};
use runtime::column::{Body, Column};
use runtime::io::{Io, Listener};
use runtime::mesh::{Doorbell, Port};
use runtime::shards::ShardMap;
use runtime::tier::{DiskPlan, Guard, Recovered, Shard};
use runtime::twin::{FaultPlan, Node, Twin, TwinIo};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use tests::content::{self, Digest, Rng};

const COLUMN_BYTES: usize = 64 << 20;
const DISK_BYTES: u64 = 3 << 30;
/// Of a column: more than any test looks up.
const NODES_MAX: usize = 7 << 10;
const LIMIT_NS: u64 = 3600 * 1_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const LOOKS: Looks = Looks { uid: 1, gid: 2, time: Timestamp { seconds: 3, nanoseconds: 4 } };

/// What a kernel on each column asks.
type Kernels = Rc<RefCell<BTreeMap<usize, Kernel>>>;
type Closed = Rc<RefCell<Vec<i32>>>;

/// What was answered.
#[derive(Debug, PartialEq)]
enum Got {
    Entry(Entry),
    NoEntry,
    Attributes(Attributes),
    Opened(Opened),
    Data(Vec<u8>),
    Size(u32),
    Offset(u64),
    Empty,
    Error(i32),
    Nothing,
}

fn taken(reply: &Reply<'_>) -> Got {
    match *reply {
        Reply::Entry(entry) => Got::Entry(entry),
        Reply::NoEntry(_) => Got::NoEntry,
        Reply::Attributes(attributes, _) => Got::Attributes(attributes),
        Reply::Opened(opened) => Got::Opened(opened),
        Reply::Data(data) => Got::Data(data.to_vec()),
        Reply::XattrSize(size) => Got::Size(size),
        Reply::Offset(at) => Got::Offset(at),
        Reply::Empty => Got::Empty,
        Reply::Error(errno) => Got::Error(errno),
        ref other => panic!("{other:?}"),
    }
}

fn send(answer: Answer<TwinIo>) -> Got {
    let mut got = Got::Nothing;
    answer.send(|reply| {
        got = taken(reply);
        true
    });
    got
}

/// The kernel, as one column sees it.
#[derive(Clone)]
struct Kernel {
    mount: Rc<Mount<TwinIo>>,
    io: TwinIo,
}

impl Kernel {
    async fn answer(&self, node: u64, operation: Operation<'_>) -> Answer<TwinIo> {
        let (unique, uid, gid, pid, opcode, extensions) = (2, 0, 0, 0, 0, &[][..]);
        match self.mount.begin(&Request { unique, node, uid, gid, pid, opcode, operation, extensions }) {
            Begun::Done(answer) => answer,
            Begun::Later(later) => self.mount.finish(later).await,
        }
    }

    async fn ask(&self, node: u64, operation: Operation<'_>) -> Got {
        send(self.answer(node, operation).await)
    }

    async fn lookup(&self, digest: &Digest) -> Got {
        self.ask(tree::SHA256, Operation::Lookup { name: name(digest).as_bytes() }).await
    }

    async fn must_find(&self, digest: &Digest) -> Entry {
        match self.lookup(digest).await {
            Got::Entry(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    async fn read(&self, node: u64, offset: u64, size_bytes: u32) -> Got {
        self.ask(node, Operation::Read(read(offset, size_bytes))).await
    }

    async fn must_read(&self, node: u64, content: &[u8], step: usize) {
        for (n, part) in content.chunks(step).enumerate() {
            let got = self.read(node, (n * step) as u64, step as u32).await;
            assert!(got == Got::Data(part.to_vec()), "read {n} of {step} bytes, of {}", content.len());
        }
        assert_eq!(self.read(node, content.len() as u64, 4096).await, Got::Data(Vec::new()));
    }

    async fn open(&self, node: u64) -> Got {
        self.ask(node, Operation::Open { flags: 0, kill_suid_sgid: false }).await
    }

    async fn release(&self, node: u64) {
        self.release_handle(node, 0).await;
    }

    async fn release_handle(&self, node: u64, handle: u64) {
        let release = Release { handle, flags: 0, flush: false, unlock: false, lock_owner: 0 };
        assert_eq!(self.ask(node, Operation::Release(release)).await, Got::Empty);
    }

    async fn forget(&self, node: u64, lookups: u64) {
        assert_eq!(self.ask(node, Operation::Forget { lookups }).await, Got::Nothing);
    }

    /// The names on a page, the nodes of READDIRPLUS, and the cookie behind.
    async fn page(&self, cookie: u64, size_bytes: u32, plus: bool) -> (Vec<(String, u64)>, u64) {
        let at = read(cookie, size_bytes);
        let operation = if plus { Operation::ReadDirPlus(at) } else { Operation::ReadDir(at) };
        let Got::Data(page) = self.ask(tree::SHA256, operation).await else { panic!("no page") };
        assert!(page.len() <= size_bytes as usize);
        let number = |at: usize| u64::from_ne_bytes(page[at..at + 8].try_into().expect("eight bytes"));
        let (mut at, mut names, mut next) = (0, Vec::new(), cookie);
        while at < page.len() {
            let node = if plus { number(at) } else { 0 };
            let entry = at + if plus { 128 } else { 0 };
            next = number(entry + 8);
            let len = (number(entry + 16) & 0xffff_ffff) as usize;
            let name = String::from_utf8(page[entry + 24..entry + 24 + len].to_vec()).expect("text");
            names.push((name, node));
            at = entry + (24 + len).next_multiple_of(8);
        }
        (names, next)
    }
}

fn read(offset: u64, size_bytes: u32) -> Read {
    Read { handle: 0, offset, size_bytes, lock_owner: None, flags: 0 }
}

fn name(digest: &Digest) -> String {
    digest.path().rsplit(':').next().expect("a digest").to_owned()
}

/// The node and all its columns' mounts.
struct Rig {
    twin: Twin,
    node: Node,
    kernels: Kernels,
    closed: Closed,
}

async fn set_up(
    column: Column<TwinIo>,
    (disks, recovered, port): (Vec<DiskPlan>, Recovered, Port<Letter<OwnerRequest, OwnerReply>>),
    (kind, kernels, closed): (Kind, Kernels, Closed),
    map: ShardMap,
) -> Result<Body, String> {
    let io = column.io.clone();
    let memory = io.clone();
    let plan = runtime::tier::Plan {
        column: column.index,
        map,
        held_bytes: 32 << 20,
        prefetch: true,
        shared_pages: true,
        disks,
        hold: Box::new(move |data| {
            let mut buffer = memory.buffer_fitting(data.len())?;
            buffer[..data.len()].copy_from_slice(data);
            Some(buffer.into_shared(data.len()))
        }),
        on_stop: Rc::new(|reason| panic!("{reason}")),
    };
    let tier = Shard::new(io.clone(), plan, recovered);
    tier.prepare().await.map_err(|e| e.to_string())?;
    let limits = Limits::new(32 << 20);
    let trust = Trust::load(None).map_err(|e| e.to_string())?;
    let fetches = Fetches::new(OriginClient::new(&io, trust), &limits);
    let seen = Seen { stalls: Box::new(|| 0), more: Box::new(Vec::new) };
    let owner = Owner::new(io.clone(), tier.clone(), Metrics::new(column.index), fetches, seen);
    let (columns, inbox) = Columns::connect(column.index, map, owner, port);
    column.add_inbox(inbox);
    let hooks = Hooks {
        is_given: Rc::new(|_| true),
        close_backing: Rc::new(move |id| closed.borrow_mut().push(id)),
        ttl_ms: None,
        disk_reads_max: 4,
        nodes_max: NODES_MAX,
        prune: Rc::new(|_| {}),
    };
    let options = Options { connection: 0, kind, looks: LOOKS, rung: "none" };
    Mount::own(&columns, 0, hooks);
    let kernel = Kernel { mount: Mount::new(columns.clone(), options), io: io.clone() };
    kernels.borrow_mut().insert(column.index, kernel);
    let server = Server::new(&io, BlobService::new(columns, &limits), net::Limits::default());
    let mut listener = io.listen(blob_addr()).map_err(|e| e.to_string())?;
    Ok(Box::pin(async move {
        io.spawn("load", async move { tier.load_all().await.expect("nothing fails here") });
        io.spawn("accept", async move {
            while let Ok(conn) = listener.accept().await {
                server.serve(conn);
            }
        });
        column.stopped().await;
    }))
}

fn rig(seed: u64, columns: usize, kind: Kind) -> Rig {
    let mut twin = Twin::new(seed, DISK_BYTES, FaultPlan::none());
    let map = ShardMap::new(columns);
    let dir = DirPlan { path: "/data1".into(), budget: Budget::new(1 << 30), weight: 1, floor_bytes: 0 };
    let opened: Rc<RefCell<Option<Disks>>> = Rc::default();
    let give = opened.clone();
    let mut one = twin.start(1, COLUMN_BYTES, move |column: Column<TwinIo>| {
        let (give, dir) = (give.clone(), dir.clone());
        async move {
            let dirs = [dir];
            let disks = node::open(&column.io, &dirs, Guard::Alone, map).await.map_err(|e| e.to_string())?;
            *give.borrow_mut() = Some(disks);
            Ok(Box::pin(async {}) as Body)
        }
    });
    twin.run_until(LIMIT_NS, || {
        one.watch();
        one.has_ended()
    });
    one.kill();
    let (disks, recovered) = opened.take().expect("opened");
    let bells: Vec<_> = (0..columns).map(|_| Arc::new(Doorbell::new().expect("an eventfd"))).collect();
    let parts = recovered.into_iter().zip(letters(&bells)).map(Some).collect::<Vec<_>>();
    let parts = Rc::new(RefCell::new(parts));
    let (kernels, closed) = (Kernels::default(), Closed::default());
    let shown = (kind, kernels.clone(), closed.clone());
    let mut node = twin.start(columns, COLUMN_BYTES, move |column: Column<TwinIo>| {
        let (recovered, port) = parts.borrow_mut()[column.index].take().expect("once");
        set_up(column, (disks.clone(), recovered, port), shown.clone(), map)
    });
    twin.run_until(LIMIT_NS, || {
        node.watch();
        assert_eq!(node.failure(), None);
        node.is_running()
    });
    Rig { twin, node, kernels, closed }
}

impl Rig {
    /// Runs a test with the kernel on each column.
    fn run<T: 'static, F: Future<Output = T> + 'static>(
        self,
        test: impl FnOnce(TwinIo, Vec<Kernel>) -> F,
    ) -> T {
        let kernels = self.kernels.borrow().values().cloned().collect();
        let done = self.twin.run(LIMIT_NS, test(self.twin.outside(), kernels));
        self.kernels.borrow_mut().clear();
        boot::stop(&self.twin, self.node);
        done
    }
}

async fn put(io: &TwinIo, content: &[u8]) -> Digest {
    let digest = Digest::of(content);
    let fields = format!("Content-Length: {}\r\n", content.len());
    let reply = Client::new(io.clone()).call(&format!("PUT {}", digest.path()), &fields, content).await;
    assert_eq!(reply.expect("an answer").status, 201);
    digest
}

async fn delete(io: &TwinIo, digest: &Digest) {
    let reply = Client::new(io.clone()).call(&format!("DELETE {}", digest.path()), "", b"").await;
    assert_eq!(reply.expect("an answer").status, 204);
}

/// What the kernel holds, of all columns: inodes, lookups, handles, backing ids.
fn held(kernels: &[Kernel]) -> [u64; 4] {
    let all = kernels.iter().map(|k| k.mount.held());
    all.fold([0; 4], |sum, held| std::array::from_fn(|n| sum[n] + held[n]))
}

const CACHED: Kind = Kind::Handles { passthrough: false };
const PASSED: Kind = Kind::Handles { passthrough: true };
const SIZES: [usize; 8] = [0, 1, 5000, 65_536, 65_537, 300_001, 4 << 20, 9_000_001];

async fn look_at(kernel: &Kernel, content: &[u8], digest: &Digest, seed: usize) {
    let entry = kernel.must_find(digest).await;
    assert_eq!(entry.attributes, LOOKS.blob(&name(digest).parse_hex(), content.len() as u64));
    let node = entry.node;
    assert_eq!(
        kernel.ask(node, Operation::GetAttr { handle: None }).await,
        Got::Attributes(entry.attributes)
    );
    let text = format!("sha256:{}", name(digest)).into_bytes();
    let xattr = |size_bytes| kernel.ask(node, Operation::GetXattr { name: tree::DIGEST_XATTR, size_bytes });
    assert_eq!(xattr(0).await, Got::Size(71));
    assert_eq!(xattr(70).await, Got::Error(libc::ERANGE));
    assert_eq!(xattr(71).await, Got::Data(text));
    let hole = Operation::Lseek { handle: 0, offset: 0, whence: libc::SEEK_HOLE as u32 };
    let end = if content.is_empty() { Got::Error(libc::ENXIO) } else { Got::Offset(content.len() as u64) };
    assert_eq!(kernel.ask(node, hole).await, end);
    assert!(matches!(kernel.open(node).await, Got::Opened(Opened { backing_id: 0, .. })));
    for step in [1 << 20, 4096 * (17 + seed), 100_003] {
        kernel.must_read(node, content, step).await;
    }
    kernel.release(node).await;
    kernel.forget(node, 1).await;
}

trait ParseHex {
    fn parse_hex(&self) -> runtime::tier::Digest;
}

impl ParseHex for String {
    fn parse_hex(&self) -> runtime::tier::Digest {
        runtime::tier::Digest::from_hex(self.as_bytes()).expect("hex digits")
    }
}

#[test]
fn every_column_shows_every_blob_byte_for_byte() {
    for columns in [1, 3] {
        rig(columns as u64, columns, CACHED).run(async |io, kernels| {
            for (seed, size) in SIZES.into_iter().enumerate() {
                let content = content::bytes(seed as u64, size);
                let digest = put(&io, &content).await;
                for kernel in &kernels {
                    look_at(kernel, &content, &digest, seed).await;
                }
            }
            assert_eq!(held(&kernels), [0; 4], "forgotten and released");
            let mut owners = 0;
            for kernel in &kernels {
                assert_eq!(kernel.lookup(&Digest::of_nothing_stored()).await, Got::NoEntry);
                let unlink = Operation::Unlink { name: b"x" };
                assert_eq!(kernel.ask(tree::SHA256, unlink).await, Got::Error(libc::EROFS));
                let write = Operation::Open { flags: libc::O_RDWR as u32, kill_suid_sgid: false };
                assert_eq!(kernel.ask(300, write).await, Got::Error(libc::EROFS));
                assert_eq!(kernel.ask(1, Operation::Unknown(999)).await, Got::Error(libc::ENOSYS));
                assert_eq!(kernel.ask(1, Operation::ReadLink).await, Got::Error(libc::EINVAL));
                let large = 777 & !(1 << 8);
                assert_eq!(kernel.open(large).await, Got::Error(libc::ESTALE));
                // One of a small file is opened without asking, on all columns but its own.
                match kernel.open(777).await {
                    Got::Opened(opened) => kernel.release_handle(777, opened.handle).await,
                    other => {
                        assert_eq!(other, Got::Error(libc::ESTALE));
                        owners += 1;
                    }
                }
                assert_eq!(kernel.read(777, 0, 10).await, Got::Error(libc::EIO));
            }
            assert_eq!(owners, 1, "columns that own the node");
            io.sleep(SECOND_NS).await;
            assert_eq!(held(&kernels), [0; 4], "nothing is kept of nodes that are not there");
        });
    }
}

#[test]
fn a_listing_shows_each_blob_once_and_counts_what_it_shows() {
    rig(4, 2, CACHED).run(async |io, kernels| {
        let mut stored = Vec::new();
        for seed in 0..60 {
            stored.push(name(&put(&io, &content::bytes(seed, 10)).await));
        }
        stored.sort();
        for (size_bytes, plus) in [(4096, false), (4096, true), (32 << 10, true), (300, true)] {
            let (mut cookie, mut seen, mut nodes) = (0, Vec::new(), Vec::new());
            for page in 0.. {
                let kernel = &kernels[page % kernels.len()];
                let (names, next) = kernel.page(cookie, size_bytes, plus).await;
                if names.is_empty() {
                    break;
                }
                nodes.extend(names.iter().map(|&(_, node)| node).filter(|&node| node != 0));
                seen.extend(names.into_iter().map(|(name, _)| name));
                cookie = next;
            }
            assert_eq!(seen[..2], [".", ".."]);
            assert_eq!(seen[2..], stored[..], "pages of {size_bytes} bytes");
            let count = nodes.len() as u64;
            assert_eq!(held(&kernels), [count, count, 0, 0]);
            assert_eq!(count, if plus { 60 } else { 0 });
            for node in nodes {
                kernels[1].forget(node, 1).await;
            }
        }
        assert_eq!(held(&kernels), [0; 4]);
    });
}

#[test]
fn handles_read_to_the_end_when_their_blob_is_deleted() {
    rig(5, 2, CACHED).run(async |io, kernels| {
        for (seed, size) in [(1, 5000), (2, 9_000_001), (3, 200_000)] {
            let content = content::bytes(seed, size);
            let digest = put(&io, &content).await;
            let node = kernels[0].must_find(&digest).await.node;
            assert!(matches!(kernels[1].open(node).await, Got::Opened(_)));
            delete(&io, &digest).await;
            assert_eq!(kernels[0].lookup(&digest).await, Got::NoEntry);
            kernels[0].must_read(node, &content, 1 << 20).await;
            kernels[1].must_read(node, &content, 70_000).await;
            kernels[0].release(node).await;
            kernels[0].forget(node, 1).await;
        }
        assert_eq!(held(&kernels), [0; 4]);
    });
}

#[test]
fn the_kernel_is_given_a_file_once_and_until_it_is_gone() {
    let rig = rig(6, 2, PASSED);
    let closed = rig.closed.clone();
    rig.run(async move |io, kernels| {
        let digest = put(&io, &content::bytes(1, 300_000)).await;
        let node = kernels[0].must_find(&digest).await.node;
        let open = Operation::Open { flags: 0, kill_suid_sgid: false };
        // Given up by the first to be asked to make the id; another open waits for it meanwhile.
        let first = kernels[0].answer(node, open).await;
        assert!(first.backing_file().is_some_and(|path| path.ends_with(name(&digest))));
        let waiting: Rc<RefCell<Option<Answer<TwinIo>>>> = Rc::default();
        let (give, kernel) = (waiting.clone(), kernels[1].clone());
        io.spawn("open", async move { *give.borrow_mut() = Some(kernel.answer(node, open).await) });
        io.sleep(SECOND_NS).await;
        assert!(waiting.borrow().is_none());
        drop(first);
        io.sleep(SECOND_NS).await;
        let second = waiting.take().expect("it is the next to make the id");
        let Got::Opened(opened) = send(kernels[1].mount.on_backing(second, Ok(7)).await) else {
            panic!("not opened")
        };
        assert_eq!(opened.backing_id, 7);
        assert_eq!(kernels[0].open(node).await, Got::Opened(opened));
        delete(&io, &digest).await;
        io.sleep(3 * SECOND_NS).await;
        assert_eq!((closed.borrow().len(), held(&kernels)), (0, [1, 1, 2, 1]), "in use");
        kernels[0].release(node).await;
        kernels[1].release(node).await;
        io.sleep(3 * SECOND_NS).await;
        assert_eq!((closed.borrow().clone(), held(&kernels)), (vec![7], [1, 1, 0, 0]));
        // What could not be given away is read by us.
        let content = content::bytes(2, 400_000);
        let digest = put(&io, &content).await;
        let other = kernels[1].must_find(&digest).await.node;
        let answer = kernels[0].answer(other, open).await;
        let refused =
            kernels[0].mount.on_backing(answer, Err(std::io::ErrorKind::PermissionDenied.into())).await;
        assert!(matches!(send(refused), Got::Opened(Opened { backing_id: 0, .. })));
        kernels[0].must_read(other, &content, 1 << 20).await;
        // An answer that the kernel does not take leaves nothing.
        kernels[0].answer(other, open).await.send(|_| false);
        drop(kernels[1].answer(tree::SHA256, Operation::Lookup { name: name(&digest).as_bytes() }).await);
        kernels[0].release(other).await;
        io.sleep(SECOND_NS).await;
        assert_eq!(held(&kernels), [2, 2, 0, 0]);
    });
}

/// What comes of ordering what the origin has, if the node stays for so long.
async fn order(io: &TwinIo, order: serde_json::Value) -> Option<Answered> {
    let order = order.to_string();
    let fields = format!("Content-Length: {}\r\n", order.len());
    Client::new(io.clone()).call("POST /blobs/fetch?ttl=60s", &fields, order.as_bytes()).await.ok()
}

/// Fetched once, and expired by now: it is to come again.
async fn expired(io: &TwinIo) -> Digest {
    let reply = order(io, serde_json::json!({ "url": origin::url() })).await.expect("an answer");
    assert_eq!(reply.status, 201);
    io.sleep(90 * SECOND_NS).await;
    let body: serde_json::Value = serde_json::from_slice(&reply.body).expect("json");
    Digest(body["digest"].as_str().expect("a digest").to_owned())
}

#[test]
fn a_blob_on_its_way_is_read_page_by_page_but_for_its_last() {
    rig(7, 2, CACHED).run(async |io, kernels| {
        let content = content::bytes(1, 20_000_000);
        // 64 KiB in 20 ms: some six seconds for all of it.
        origin::serve(&io, content.clone(), 20_000_000);
        let digest = expired(&io).await;
        let begun_ns = io.now_ns();
        let entry = kernels[0].must_find(&digest).await;
        assert_eq!(entry.attributes.size_bytes, content.len() as u64);
        assert!(matches!(kernels[1].open(entry.node).await, Got::Opened(_)));
        let first = kernels[1].read(entry.node, 0, 1 << 20).await;
        let first_ns = io.now_ns() - begun_ns;
        assert!(first == Got::Data(content[..1 << 20].to_vec()));
        kernels[0].must_read(entry.node, &content, 1 << 20).await;
        let all_ns = io.now_ns() - begun_ns;
        assert!(first_ns * 2 < all_ns, "the first page took {first_ns} ns of {all_ns}");
        kernels[0].release(entry.node).await;
        kernels[0].forget(entry.node, 1).await;
        io.sleep(30 * SECOND_NS).await;
        assert_eq!(held(&kernels), [0; 4]);
    });
}

#[test]
fn an_origin_that_hangs_is_an_error_in_time() {
    rig(8, 2, CACHED).run(async |io, kernels| {
        let content = content::bytes(1, 20_000_000);
        let pause_ns = Rc::new(Cell::new(20_000_000));
        origin::serve_paced(&io, content.clone(), pause_ns.clone());
        let digest = expired(&io).await;
        let hang = || pause_ns.set(3600 * SECOND_NS);
        let took_s = |begun_ns| (io.now_ns() - begun_ns) / SECOND_NS;
        hang();
        let begun_ns = io.now_ns();
        assert_eq!(kernels[0].lookup(&digest).await, Got::Error(libc::EIO));
        assert!((1..=11).contains(&took_s(begun_ns)), "{} s", took_s(begun_ns));
        pause_ns.set(20_000_000);
        let node = kernels[0].must_find(&digest).await.node;
        assert!(matches!(kernels[1].open(node).await, Got::Opened(_)));
        assert_eq!(kernels[1].read(node, 0, 4096).await, Got::Data(content[..4096].to_vec()));
        hang();
        let begun_ns = io.now_ns();
        assert_eq!(kernels[1].read(node, 19_000_000, 4096).await, Got::Error(libc::EIO));
        assert!((1..=22).contains(&took_s(begun_ns)), "{} s", took_s(begun_ns));
        let begun_ns = io.now_ns();
        assert_eq!(kernels[0].read(node, 19_000_000, 4096).await, Got::Error(libc::EIO));
        assert_eq!(took_s(begun_ns), 0, "the kernel asks again for a page that failed");
        kernels[0].release(node).await;
        kernels[0].forget(node, 1).await;
        assert_eq!(held(&kernels), [0; 4]);
    });
}

/// A request as the kernel writes it: header, then numbers, then bytes.
fn written(opcode: u32, node: u64, numbers: &[u64], bytes: &[u8]) -> Vec<u8> {
    let mut request = vec![0; 40];
    request[4..8].copy_from_slice(&opcode.to_ne_bytes());
    request[8..16].copy_from_slice(&2u64.to_ne_bytes());
    request[16..24].copy_from_slice(&node.to_ne_bytes());
    request.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
    request.extend(bytes);
    request
}

/// All that a mount answers otherwise than by "there is no such thing here", of the blob `node`.
fn all_written(node: u64, digest: &Digest) -> Vec<Vec<u8>> {
    let name = [name(digest).as_bytes(), b"\0"].concat();
    let xattr = [tree::DIGEST_XATTR, b"\0"].concat();
    let page = 4096u64;
    vec![
        written(1, tree::SHA256, &[], &name),
        written(2, node, &[1], &[]),
        written(3, node, &[0, 0], &[]),
        written(4, node, &[0; 11], &[]),
        written(10, tree::SHA256, &[], &name),
        written(14, node, &[0], &[]),
        written(15, node, &[0, 65_536, page, 0, 0], &[]),
        written(17, 1, &[], &[]),
        written(18, node, &[0, 0, 0], &[]),
        written(22, node, &[71], &xattr),
        written(23, node, &[100], &[]),
        written(25, node, &[0, 0, 0], &[]),
        written(27, tree::SHA256, &[0], &[]),
        written(28, tree::SHA256, &[0, 0, page, 0, 0], &[]),
        written(36, 0, &[2], &[]),
        written(42, 0, &[2, node, 1, node + 256, 1], &[]),
        written(44, tree::SHA256, &[0, 0, page, 0, 0], &[]),
        written(46, node, &[0, 10, 3], &[]),
    ]
}

/// The same with a few bytes changed, or cut short; often with the length that it has.
fn bent(rng: &mut Rng, requests: &[Vec<u8>]) -> Vec<u8> {
    let mut request = requests[rng.below(requests.len() as u64) as usize].clone();
    for _ in 0..rng.below(4) {
        let at = rng.below(request.len() as u64) as usize;
        request[at] = if rng.one_in(2) { rng.any() as u8 } else { request[at] ^ 1 << rng.below(8) };
    }
    if rng.one_in(8) {
        request.truncate(rng.below(request.len() as u64 + 1) as usize);
    }
    let length = (request.len() as u32).to_ne_bytes();
    if let Some(field) = request.get_mut(..4).filter(|_| !rng.one_in(8)) {
        field.copy_from_slice(&length);
    }
    request
}

#[test]
fn requests_that_lie_are_answered_and_harm_nobody() {
    const REQUESTS: usize = 20_000;
    rig(9, 2, CACHED).run(async |io, kernels| {
        let content = content::bytes(1, 300_000);
        let digest = put(&io, &content).await;
        let requests = all_written(kernels[0].must_find(&digest).await.node, &digest);
        let (mut rng, mut answered, mut refused) = (Rng::new(content::run_seed()), 0, 0);
        for n in 0..REQUESTS {
            let bytes = bent(&mut rng, &requests);
            let Ok(request) = Request::parse_whole(&bytes) else {
                refused += 1;
                continue;
            };
            let mount = &kernels[n % kernels.len()].mount;
            let begun_ns = io.now_ns();
            let answer = match mount.begin(&request) {
                Begun::Done(answer) => answer,
                Begun::Later(later) => mount.finish(later).await,
            };
            answer.send(|_| true);
            answered += 1;
            assert!(io.now_ns() - begun_ns < 40 * SECOND_NS, "{:?} is late", request.operation);
        }
        assert!(answered + refused == REQUESTS && answered.min(refused) > REQUESTS / 20, "{refused} refused");
        look_at(&kernels[1], &content, &digest, 1).await;
    });
}
