//! Clients that ask anything at random, at any pace; that purge, and change what the origin has. Every answer is judged.

use super::ask::Ask;
use super::client::{Answer, Client, End, Pace};
use super::judge::judge;
use super::objects::{group, prefix};
use super::world::{Calm, Names, Purged, World};
use runtime::io::Io;
use runtime::twin::{Rng, TwinIo};
use std::rc::Rc;

/// Wait before the next try when nobody answers.
const RETRY_NS: u64 = 20_000_000;
/// Clients wait up to this long before a request, now and then.
const THINK_NS: u64 = 1_500_000_000;
const SLOW_NS_MAX: u64 = 30_000_000;
/// The calendar jumps ahead so far: less and more than answers are good for.
const JUMP_MS_MAX: u64 = 12_000;

/// One client at work.
pub struct Worker {
    io: TwinIo,
    client: Client,
    /// In which its connection began.
    boot: u64,
    world: Rc<World>,
    rng: Rng,
}

/// Starts client `me`; it goes on until told to stop.
pub fn spawn(io: &TwinIo, world: &Rc<World>, me: u64, seed: u64) {
    let worker = Worker::new(io, world, Rng::new(seed ^ (me + 1).wrapping_mul(0x1234_5677)));
    world.running.set(world.running.get() + 1);
    io.spawn("client", worker.work());
}

/// Asks for every object until it gets it whole and as it is now; a few tries, since what was believed before may end the first.
pub async fn look_at_all(io: TwinIo, world: Rc<World>, tries: usize) {
    let mut worker = Worker::new(&io, &world, Rng::new(1));
    let count = world.objects.borrow().len();
    for object in 0..count {
        let mut last = None;
        for _ in 0..tries {
            last = worker.ask(&Ask::whole(object), Pace::Quick).await;
            let is_whole = |answer: &Answer| answer.status == 200 && answer.end == End::Whole;
            if last.as_ref().is_some_and(is_whole) || world.is_broken() {
                break;
            }
            last = None;
            worker.io.sleep(RETRY_NS).await;
        }
        if last.is_none() {
            world.violate(format!("object {object} does not heal{}", world.history(object)));
        }
    }
}

impl Worker {
    pub fn new(io: &TwinIo, world: &Rc<World>, rng: Rng) -> Worker {
        Worker { io: io.clone(), client: Client::new(io), boot: 0, world: world.clone(), rng }
    }

    async fn work(mut self) {
        while !self.world.stop.get() && !self.world.is_broken() {
            if self.rng.below(4) == 0 {
                let think_ns = self.rng.below(THINK_NS);
                self.io.sleep(think_ns).await;
            }
            self.act().await;
        }
        self.world.running.set(self.world.running.get() - 1);
    }

    async fn act(&mut self) {
        let may_change = self.world.calm.get() != Calm::Still;
        let count = self.world.objects.borrow().len() as u64;
        let object = self.rng.below(count) as usize;
        let is_done = match self.rng.below(100) {
            0..8 if may_change => self.purge(object).await,
            8..16 if may_change => {
                self.change(object);
                true
            }
            16..19 if may_change => self.post(object).await,
            19..25 => {
                let jump_ms = self.rng.below(JUMP_MS_MAX);
                self.world.watch.advance_calendar(jump_ms);
                true
            }
            _ => self.ask_anything(object).await,
        };
        // What nobody answered is no operation.
        if is_done {
            self.world.operations.set(self.world.operations.get() + 1);
        } else {
            self.io.sleep(RETRY_NS).await;
        }
    }

    async fn ask_anything(&mut self, object: usize) -> bool {
        let ask = Ask::random(&self.world.objects.borrow()[object], &mut self.rng);
        let pace = match self.rng.below(10) {
            0 => Pace::Slow(self.rng.below(SLOW_NS_MAX)),
            1 => Pace::Leaves(self.rng.below(4 * self.world.slice_bytes) as usize),
            _ => Pace::Quick,
        };
        self.ask(&ask, pace).await.is_some()
    }

    /// Asks, and has the answer judged.
    pub async fn ask(&mut self, ask: &Ask, pace: Pace) -> Option<Answer> {
        let head = ask.head(&self.world.objects.borrow()[ask.object]);
        let begin = (self.io.now_ns(), self.world.now_s());
        let was_up = self.world.is_up.get();
        let answer = self.call(&head, &[], pace).await;
        let is_down = !was_up || !self.world.is_up.get() || self.world.boot.get() != self.boot;
        judge(&self.world, ask, answer.as_ref(), begin, is_down);
        answer
    }

    /// Over a connection to the node that runs now.
    async fn call(&mut self, head: &str, body: &[u8], pace: Pace) -> Option<Answer> {
        if self.world.boot.get() != self.boot {
            self.boot = self.world.boot.get();
            self.client = Client::new(&self.io);
        }
        self.client.call(head, body, pace).await
    }

    pub fn change(&mut self, object: usize) {
        self.world.seen.borrow_mut().versions += 1;
        self.world.objects.borrow_mut()[object].change(self.world.slice_bytes, &mut self.rng);
    }

    async fn purge(&mut self, object: usize) -> bool {
        let path = self.world.objects.borrow()[object].path();
        let (target, field, names) = match self.rng.below(8) {
            0 => ("/*".to_owned(), String::new(), Names::All),
            1 => ("/".to_owned(), "X-Purge-All: 1\r\n".to_owned(), Names::All),
            2 => (format!("{}*", prefix(object % 2)), String::new(), Names::Prefix(object % 2)),
            3 => {
                let field = format!("X-Purge-Pattern: {}*\r\n", prefix(object % 2));
                ("/".to_owned(), field, Names::Prefix(object % 2))
            }
            4 => {
                let field = format!("Surrogate-Key: {}\r\n", group(object % 3));
                ("/".to_owned(), field, Names::Group(object % 3))
            }
            _ => (path, String::new(), Names::Object(object)),
        };
        let is_soft = self.rng.below(3) == 0;
        let soft = if is_soft { "Soft-Purge: 1\r\n" } else { "" };
        // What is purged has changed, as often as not.
        if self.rng.below(2) == 0 {
            self.change(object);
        }
        let head = format!("PURGE {target} HTTP/1.1\r\nHost: twin\r\n{field}{soft}\r\n");
        self.order(&head, &[], names, (is_soft, None)).await
    }

    /// An unsafe method: what is stored of its target no longer holds (RFC 9111 §4.4).
    pub async fn post(&mut self, object: usize) -> bool {
        let path = self.world.objects.borrow()[object].path();
        let head = format!("POST {path} HTTP/1.1\r\nHost: twin\r\nContent-Length: 3\r\n\r\n");
        let until = self.world.disks_fail.get().then(|| self.world.boot.get());
        self.order(&head, b"new", Names::Object(object), (true, until)).await
    }

    pub async fn order(&mut self, head: &str, body: &[u8], names: Names, how: (bool, Option<u64>)) -> bool {
        let asked_ns = self.io.now_ns();
        let answer = self.call(head, body, Pace::Quick).await;
        let is_done = answer.is_some_and(|answer| answer.status == 200 && answer.end == End::Whole);
        if is_done {
            let (answered_ns, (is_soft, until)) = (self.io.now_ns(), how);
            self.world.purged.borrow_mut().push(Purged { names, is_soft, until, asked_ns, answered_ns });
            self.world.seen.borrow_mut().purges += 1;
        }
        is_done
    }
}
