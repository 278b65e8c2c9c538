//! S3-FIFO as published, written to be read and not to be fast (Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you
//! need for cache eviction", SOSP '23; constants and corner cases as in the authors' libCacheSim, `S3FIFO.c`).
//!
//! A small queue of a tenth of the cache, a main queue of the rest, a ghost queue that names what left the small one, as
//! large as 0.9 of the cache by the weights it stands for. What was asked for twice while in the small queue moves to the
//! main one; a ghost that is asked for enters the main one; the main queue gives up to three second chances.

use std::collections::{HashMap, VecDeque};

const MOVE_TO_MAIN_THRESHOLD: u32 = 2;
const FREQUENCY_MAX: u32 = 3;

#[derive(Debug)]
struct Object {
    weight: u64,
    frequency: u32,
}

/// Queues of keys, oldest in front, with the sum of their weights.
#[derive(Debug, Default)]
struct Fifo {
    keys: VecDeque<u64>,
    weight: u64,
    weight_max: u64,
}

/// The cache.
#[derive(Debug)]
pub struct S3Fifo {
    small: Fifo,
    main: Fifo,
    objects: HashMap<u64, Object>,
    /// Key, weight and number, oldest in front; those whose number is no longer in `ghosts` have left.
    ghost_order: VecDeque<(u64, u64, u64)>,
    ghosts: HashMap<u64, u64>,
    ghosts_ever: u64,
    ghost_weight: u64,
    ghost_weight_max: u64,
    has_evicted: bool,
}

impl S3Fifo {
    /// An empty cache for `weight_max`.
    #[must_use]
    pub fn new(weight_max: u64) -> S3Fifo {
        let small_max = (weight_max as f64 * 0.1) as u64;
        S3Fifo {
            small: Fifo { weight_max: small_max, ..Fifo::default() },
            main: Fifo { weight_max: weight_max - small_max, ..Fifo::default() },
            objects: HashMap::new(),
            ghost_order: VecDeque::new(),
            ghosts: HashMap::new(),
            ghosts_ever: 0,
            ghost_weight: 0,
            ghost_weight_max: (weight_max as f64 * 0.9) as u64,
            has_evicted: false,
        }
    }

    /// Asks for an object, which is held from now on; whether it was held before. As `cache_get_base`.
    pub fn get(&mut self, key: u64, weight: u64) -> bool {
        if let Some(object) = self.objects.get_mut(&key) {
            object.frequency += 1;
            return true;
        }
        let was_ghost = self.forget_ghost(key, weight);
        // Larger than the small queue: not admitted.
        if weight > self.small.weight_max {
            return false;
        }
        while self.small.weight + self.main.weight + weight > self.small.weight_max + self.main.weight_max {
            self.evict();
        }
        let fills_main = !self.has_evicted && self.small.weight >= self.small.weight_max;
        if !was_ghost && !fills_main && weight >= self.small.weight_max {
            return false;
        }
        let queue = if was_ghost || fills_main { &mut self.main } else { &mut self.small };
        queue.push(key, weight);
        self.objects.insert(key, Object { weight, frequency: 0 });
        false
    }

    fn forget_ghost(&mut self, key: u64, weight: u64) -> bool {
        let was_ghost = self.ghosts.remove(&key).is_some();
        if was_ghost {
            self.ghost_weight -= weight;
        }
        was_ghost
    }

    fn evict(&mut self) {
        self.has_evicted = true;
        if self.main.weight > self.main.weight_max || self.small.weight == 0 {
            self.evict_main();
        } else {
            self.evict_small();
        }
    }

    fn evict_small(&mut self) {
        while let Some(key) = self.small.keys.pop_front() {
            let object = self.objects.get_mut(&key).expect("queued keys are held");
            self.small.weight -= object.weight;
            if object.frequency < MOVE_TO_MAIN_THRESHOLD {
                let weight = object.weight;
                self.objects.remove(&key);
                self.add_ghost(key, weight);
                return;
            }
            object.frequency = 0;
            self.main.push(key, object.weight);
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.keys.pop_front() {
            let object = self.objects.get_mut(&key).expect("queued keys are held");
            self.main.weight -= object.weight;
            if object.frequency == 0 {
                self.objects.remove(&key);
                return;
            }
            object.frequency = object.frequency.min(FREQUENCY_MAX) - 1;
            self.main.push(key, object.weight);
        }
    }

    fn add_ghost(&mut self, key: u64, weight: u64) {
        if weight > self.ghost_weight_max || self.ghosts.contains_key(&key) {
            return;
        }
        self.ghosts_ever += 1;
        self.ghosts.insert(key, self.ghosts_ever);
        self.ghost_order.push_back((key, weight, self.ghosts_ever));
        self.ghost_weight += weight;
        while self.ghost_weight > self.ghost_weight_max {
            let (oldest, weight, number) = self.ghost_order.pop_front().expect("weights are of ghosts");
            if self.ghosts.get(&oldest) == Some(&number) {
                self.ghosts.remove(&oldest);
                self.ghost_weight -= weight;
            }
        }
    }
}

impl Fifo {
    fn push(&mut self, key: u64, weight: u64) {
        self.keys.push_back(key);
        self.weight += weight;
    }
}
