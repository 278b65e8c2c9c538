//! How the nodes of one connection are open on the column that owns them: in cached or in passthrough mode, with which backing
//! id, and where their bytes are read from. Pure; `S` is what bytes are read from.
//!
//! Called by `nodes`. The kernel refuses (EIO) a cached open of an inode that is open in passthrough mode and the other way
//! round, and a passthrough open with another backing id than those that are open. So the mode and the id are decided when an
//! inode that is not open is opened, and hold until its last handle is released.
//!
//! Invariants
//! 1. All handles of a node are of one mode; those in passthrough mode of one backing id.
//! 2. While a backing id is being made nobody else makes one for the same node.
//! 3. Every backing id that was noted is given out for closing once: when its node is gone, when the file is not the blob's any
//!    more, when too many lie idle. Never while a handle uses it.
//! 4. Nodes that are not open take at most [`IDLE_MAX`] places after a [`Opens::shed`]; there are at most [`SOURCES_MAX`] sources.
//!
//! Units: monotonic nanoseconds.

use std::collections::HashMap;

/// Nodes without a handle whose backing id or source is kept for the next open or read, of one connection on one column.
pub const IDLE_MAX: usize = 512;
/// Sources kept, each with at most one open file; what is beyond is found anew for each read.
pub const SOURCES_MAX: usize = 1024;

/// How a handle is to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    /// Through the page cache: we are asked for the bytes.
    Cached,
    /// By the kernel, with this backing id.
    Backed(i32),
    /// The asker is to make a backing id and to say what came of it.
    MakeBacking,
    /// Somebody is at that: ask again when it is done.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    None,
    Making,
    /// Of the file that had this version.
    Made(i32, u64),
}

struct Open<S> {
    handles: u32,
    is_backed: bool,
    backing: Backing,
    source: Option<S>,
    used_ns: u64,
}

/// The open nodes, and those that were.
pub struct Opens<S> {
    nodes: HashMap<u64, Open<S>>,
    now_ns: u64,
    idle: usize,
    sources: usize,
}

/// A node that is not open and of which something is kept.
pub struct Idle<'o, S> {
    /// Which.
    pub node: u64,
    /// The version of the file that its backing id is of, if it has one.
    pub backing: Option<u64>,
    /// Where its bytes are read from, if that is known.
    pub source: Option<&'o S>,
    /// For how long nobody used it.
    pub idle_ns: u64,
}

impl<S> Open<S> {
    fn is_idle(&self) -> bool {
        self.handles == 0 && self.backing != Backing::Making
    }

    /// The id, which is not kept any more.
    fn take_backing(&mut self) -> Option<i32> {
        match self.backing {
            Backing::Made(id, _) => {
                self.backing = Backing::None;
                Some(id)
            }
            Backing::None | Backing::Making => None,
        }
    }
}

impl<S> Default for Opens<S> {
    fn default() -> Opens<S> {
        Opens { nodes: HashMap::new(), now_ns: 0, idle: 0, sources: 0 }
    }
}

impl<S> Opens<S> {
    /// What is done next is done at this time.
    pub fn at(&mut self, now_ns: u64) -> &mut Opens<S> {
        self.now_ns = now_ns;
        self
    }

    /// Backing ids that are kept.
    pub fn backings(&self) -> usize {
        self.nodes.values().filter(|open| matches!(open.backing, Backing::Made(..))).count()
    }

    /// Changes what is kept of a node, and keeps the count of idle ones right.
    fn with<T>(&mut self, node: u64, change: impl FnOnce(&mut Open<S>) -> T) -> T {
        let fresh =
            || Open { handles: 0, is_backed: false, backing: Backing::None, source: None, used_ns: 0 };
        let is_new = !self.nodes.contains_key(&node);
        let open = self.nodes.entry(node).or_insert_with(fresh);
        let (was_idle, had_source) = (!is_new && open.is_idle(), open.source.is_some());
        open.used_ns = self.now_ns;
        let result = change(open);
        self.idle = self.idle + usize::from(open.is_idle()) - usize::from(was_idle);
        self.sources = self.sources + usize::from(open.source.is_some()) - usize::from(had_source);
        if open.is_idle() && open.source.is_none() && open.backing == Backing::None {
            self.nodes.remove(&node);
            self.idle -= 1;
        }
        result
    }

    /// Decides how the next handle of a node is opened, and counts it unless a backing id has to be made first. `version`: of
    /// the file, if the kernel may be given it. An id to be closed may come with it.
    pub fn open(&mut self, node: u64, version: Option<u64>) -> (Decided, Option<i32>) {
        self.with(node, |open| {
            if open.backing == Backing::Making {
                return (Decided::Wait, None);
            }
            if open.handles > 0 {
                open.handles += 1;
                return match open.backing {
                    Backing::Made(id, _) if open.is_backed => (Decided::Backed(id), None),
                    _ => (Decided::Cached, None),
                };
            }
            let stale = match open.backing {
                Backing::Made(_, of) if version != Some(of) => open.take_backing(),
                _ => None,
            };
            open.is_backed = version.is_some();
            let decided = match (version, open.backing) {
                (Some(_), Backing::Made(id, _)) => Decided::Backed(id),
                (Some(_), _) => {
                    open.backing = Backing::Making;
                    return (Decided::MakeBacking, stale);
                }
                (None, _) => Decided::Cached,
            };
            open.handles = 1;
            (decided, stale)
        })
    }

    /// Whether the file of that version can be given to the kernel without making an id, and nothing speaks against it.
    pub fn has_backing(&self, node: u64, version: u64) -> bool {
        self.nodes.get(&node).is_some_and(|open| {
            let is_made = matches!(open.backing, Backing::Made(_, of) if of == version);
            is_made && (open.handles == 0 || open.is_backed)
        })
    }

    /// Whether somebody makes a backing id for it: how it is opened is not known before.
    pub fn is_making(&self, node: u64) -> bool {
        self.nodes.get(&node).is_some_and(|open| open.backing == Backing::Making)
    }

    /// What came of making a backing id: it is kept and a handle counted, or there is none. False: nobody was to make one, and
    /// the id is the caller's to close.
    pub fn on_made(&mut self, node: u64, made: Option<(i32, u64)>) -> bool {
        if !self.nodes.get(&node).is_some_and(|open| open.backing == Backing::Making) {
            return false;
        }
        self.with(node, |open| match made {
            Some((id, version)) => {
                assert!(open.handles == 0, "a handle was opened while a backing id was made");
                open.backing = Backing::Made(id, version);
                (open.is_backed, open.handles) = (true, 1);
            }
            None => (open.backing, open.is_backed) = (Backing::None, false),
        });
        true
    }

    /// A handle of a node is released.
    pub fn release(&mut self, node: u64) {
        if self.nodes.contains_key(&node) {
            self.with(node, |open| open.handles = open.handles.saturating_sub(1));
        }
    }

    /// Where the bytes of a node are read from, if that is known.
    pub fn source(&mut self, node: u64) -> Option<&S> {
        let open = self.nodes.get_mut(&node)?;
        open.used_ns = self.now_ns;
        open.source.as_ref()
    }

    /// Keeps that if there is room, or not any more.
    pub fn set_source(&mut self, node: u64, source: Option<S>) {
        let is_there = self.nodes.get(&node).is_some_and(|open| open.source.is_some());
        let has_room = source.is_none() || is_there || self.sources < SOURCES_MAX;
        if has_room && (source.is_some() || is_there) {
            self.with(node, |open| open.source = source);
        }
    }

    /// Nodes and what their bytes are read from.
    pub fn sources(&self) -> impl Iterator<Item = (u64, &S)> {
        self.nodes.iter().filter_map(|(&node, open)| Some((node, open.source.as_ref()?)))
    }

    /// Whether a handle of the node is open.
    pub fn is_open(&self, node: u64) -> bool {
        self.nodes.get(&node).is_some_and(|open| !open.is_idle())
    }

    /// The node is gone. An id to be closed may be left.
    pub fn forget(&mut self, node: u64) -> Option<i32> {
        let mut open = self.nodes.remove(&node)?;
        self.idle -= usize::from(open.is_idle());
        self.sources -= usize::from(open.source.is_some());
        open.take_backing()
    }

    /// Lets go of idle nodes: those that `is_over` says, and those beyond [`IDLE_MAX`], the longest unused first. The ids to be
    /// closed.
    pub fn shed(&mut self, is_over: impl Fn(Idle<'_, S>) -> bool) -> Vec<i32> {
        let idle = self.nodes.iter().filter(|(_, open)| open.is_idle());
        let mut idle: Vec<(u64, u64)> = idle.map(|(&node, open)| (open.used_ns, node)).collect();
        idle.sort_unstable();
        let beyond = idle.len().saturating_sub(IDLE_MAX);
        let mut ids = Vec::new();
        for (n, (used_ns, node)) in idle.into_iter().enumerate() {
            let open = &self.nodes[&node];
            let backing = match open.backing {
                Backing::Made(_, version) => Some(version),
                Backing::None | Backing::Making => None,
            };
            let idle_ns = self.now_ns.saturating_sub(used_ns);
            if n < beyond || is_over(Idle { node, backing, source: open.source.as_ref(), idle_ns }) {
                ids.extend(self.forget(node));
            }
        }
        ids
    }

    /// Whether more lies idle than may.
    pub fn is_crowded(&self) -> bool {
        self.idle > IDLE_MAX
    }

    /// Whether nothing is kept: if not, [`Opens::shed`] is to be called now and then.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The connection has ended; the ids that are left.
    pub fn clear(&mut self) -> Vec<i32> {
        (self.idle, self.sources) = (0, 0);
        self.nodes.drain().filter_map(|(_, mut open)| open.take_backing()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_mode_holds_until_the_last_handle_is_released() {
        let mut opens = Opens::<()>::default();
        assert_eq!(opens.open(300, None), (Decided::Cached, None));
        assert_eq!(opens.open(300, Some(7)), (Decided::Cached, None), "a cached handle is open");
        opens.release(300);
        assert_eq!(opens.open(300, Some(7)), (Decided::Cached, None), "one is still open");
        opens.release(300);
        opens.release(300);
        assert_eq!(opens.nodes.len(), 0);
        assert_eq!(opens.open(300, Some(7)), (Decided::MakeBacking, None), "wholly local by now");
        assert_eq!(opens.open(300, Some(7)), (Decided::Wait, None));
        assert!(opens.on_made(300, Some((1, 7))));
        assert_eq!(
            opens.open(300, None),
            (Decided::Backed(1), None),
            "deleted, but open in passthrough mode"
        );
        assert_eq!(
            opens.open(300, Some(9)),
            (Decided::Backed(1), None),
            "stored anew, but the old file is open"
        );
        (0..3).for_each(|_| opens.release(300));
        assert_eq!(opens.open(300, Some(9)), (Decided::MakeBacking, Some(1)), "another file now");
        assert!(opens.on_made(300, None));
        assert_eq!(opens.open(300, None), (Decided::Cached, None));
        assert_eq!(opens.forget(300), None);
        assert!(!opens.on_made(300, Some((2, 9))), "nobody was to make it");
    }

    #[test]
    fn what_lies_idle_is_bounded_and_not_kept_for_another_file() {
        let mut opens = Opens::<()>::default();
        for node in 0..IDLE_MAX as u64 + 10 {
            opens.at(node);
            assert_eq!(opens.open(node, Some(node)).0, Decided::MakeBacking);
            assert!(opens.on_made(node, Some((node as i32, node))));
        }
        assert!(!opens.is_crowded() && opens.shed(|_| true).is_empty(), "all are open");
        (0..IDLE_MAX as u64 + 10).for_each(|node| opens.at(1000 + node).release(node));
        assert!(opens.is_crowded());
        assert_eq!(opens.shed(|_| false), (0..10).collect::<Vec<i32>>(), "the longest unused");
        assert_eq!(opens.shed(|idle| idle.backing == Some(20)), [20]);
        let used_ns = 1000 + IDLE_MAX as u64;
        assert_eq!(opens.at(used_ns + 50).shed(|idle| idle.idle_ns == 50), [IDLE_MAX as i32]);
        assert_eq!(opens.backings(), IDLE_MAX - 2);
        assert_eq!((opens.clear().len(), opens.nodes.len()), (IDLE_MAX - 2, 0));
    }

    #[test]
    fn sources_are_bounded() {
        let mut opens = Opens::default();
        (0..SOURCES_MAX as u64 + 5).for_each(|node| opens.set_source(node, Some(node)));
        assert_eq!((opens.nodes.len(), opens.sources), (SOURCES_MAX, SOURCES_MAX));
        opens.set_source(3, Some(77));
        assert_eq!(opens.source(3), Some(&77));
        opens.set_source(3, None);
        assert_eq!(opens.source(3), None);
        assert_eq!(opens.nodes.len(), SOURCES_MAX - 1);
        opens.forget(4);
        opens.shed(|idle| idle.source == Some(&1000));
        assert_eq!(opens.sources, IDLE_MAX - 1);
        opens.clear();
        assert_eq!((opens.nodes.len(), opens.sources), (0, 0));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open(u64, Option<u64>),
        Made(u64, bool),
        Release(u64),
        Source(u64, bool),
        Forget(u64),
        Shed(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let node = 0..4u64;
        prop_oneof![
            6 => (node.clone(), proptest::option::of(0..3u64)).prop_map(|(n, v)| Step::Open(n, v)),
            4 => (node.clone(), any::<bool>()).prop_map(|(n, ok)| Step::Made(n, ok)),
            5 => node.clone().prop_map(Step::Release),
            2 => (node.clone(), any::<bool>()).prop_map(|(n, some)| Step::Source(n, some)),
            1 => node.clone().prop_map(Step::Forget),
            1 => (0..3u64).prop_map(Step::Shed),
        ]
    }

    /// What the kernel would see: the handles of each node by what they were opened with.
    #[derive(Default)]
    struct Kernel {
        handles: [Vec<Option<i32>>; 4],
        making: [Option<u64>; 4],
        live_ids: BTreeSet<i32>,
        next_id: i32,
    }

    impl Kernel {
        fn close(&mut self, id: i32) {
            assert!(self.live_ids.remove(&id), "id {id} is closed twice or was never made");
            assert!(
                self.handles.iter().flatten().all(|&h| h != Some(id)),
                "id {id} is closed while it is in use"
            );
        }

        fn opened(&mut self, node: u64, id: Option<i32>) {
            let handles = &mut self.handles[node as usize];
            assert!(handles.iter().all(|&h| h == id), "{id:?} beside {handles:?}: the kernel says EIO");
            assert!(id.is_none_or(|id| self.live_ids.contains(&id)), "opened with {id:?}, which was closed");
            handles.push(id);
        }

        fn run(&mut self, opens: &mut Opens<()>, step: &Step) {
            match *step {
                Step::Open(node, version) => {
                    let (decided, close) = opens.open(node, version);
                    close.into_iter().for_each(|id| self.close(id));
                    match decided {
                        Decided::Cached => self.opened(node, None),
                        Decided::Backed(id) => self.opened(node, Some(id)),
                        Decided::MakeBacking => self.making[node as usize] = version,
                        Decided::Wait => assert!(self.making[node as usize].is_some()),
                    }
                }
                Step::Made(node, ok) => {
                    let Some(version) = self.making[node as usize].take() else {
                        assert!(!opens.on_made(node, ok.then_some((-1, 0))));
                        return;
                    };
                    self.next_id += 1;
                    let made = ok.then_some((self.next_id, version));
                    if opens.on_made(node, made) && ok {
                        self.live_ids.insert(self.next_id);
                        self.opened(node, Some(self.next_id));
                    }
                }
                Step::Release(node) => {
                    if self.handles[node as usize].pop().is_some() {
                        opens.release(node);
                    }
                }
                Step::Source(node, some) => opens.set_source(node, some.then_some(())),
                // The kernel forgets what is not open.
                Step::Forget(node) if self.handles[node as usize].is_empty() => {
                    opens.forget(node).into_iter().for_each(|id| self.close(id));
                    // Its maker comes too late, or makes one for the next open.
                    self.making[node as usize] = None;
                }
                Step::Forget(_) => {}
                Step::Shed(version) => {
                    let shed = opens.shed(|idle| idle.backing != Some(version));
                    shed.into_iter().for_each(|id| self.close(id));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_kernel_never_has_reason_to_refuse(steps in proptest::collection::vec(step(), 0..200)) {
            let (mut opens, mut kernel) = (Opens::<()>::default(), Kernel::default());
            for step in &steps {
                kernel.run(&mut opens, step);
                assert_eq!(opens.backings(), kernel.live_ids.len());
            }
            let idle = opens.nodes.values().filter(|open| open.is_idle()).count();
            let sources = opens.nodes.values().filter(|open| open.source.is_some()).count();
            assert_eq!((opens.idle, opens.sources), (idle, sources));
            opens.clear().into_iter().for_each(|id| { kernel.live_ids.remove(&id); });
            assert!(kernel.live_ids.is_empty(), "ids are left open");
        }
    }
}
