//! Random operations against a naive model: the same bytes in ordinary files.

use std::fs;

use tests::content::{self, Rng};
use tests::fuse::{self, Client, Mounted, name_of};
use tests::scale;

use super::{must_have_served, text};

/// Operations of each program, unless `BASALT_OPS` says otherwise.
const OPERATIONS: u64 = 1500;
/// Programs at once on each mount.
const PROGRAMS: usize = 2;

fn must_be_as_the_model_says(rung: &str) {
    let Some(mounted) = Mounted::start(rung) else { return };
    let seed = content::run_seed();
    let mut rng = Rng::new(seed);
    let twins = mounted.node.setup.path("twins");
    fs::create_dir(&twins).expect("made");
    let mut sizes: Vec<usize> = (0..10).map(|_| rng.size(1, 8 << 20)).collect();
    sizes.extend([0, 65_535, 65_536, 4 << 20]);
    for size in sizes {
        let body = content::bytes(rng.any(), size);
        let digest = mounted.node.client().put(&body);
        fs::write(twins.join(name_of(&digest)), body).expect("written");
    }
    // Half of it cold, from disk.
    let mounted = if rng.one_in(2) { mounted.restart() } else { mounted };
    let count = scale::count("BASALT_OPS", OPERATIONS).to_string();
    let mut programs = Vec::new();
    for point in [mounted.points(); PROGRAMS].into_iter().flatten() {
        let own_seed = rng.any().to_string();
        let args = [point.text(), text(&twins), &own_seed, &count];
        programs.push(Client::spawn(&mut fuse::python(include_str!("model.py"), &args)));
    }
    for program in programs {
        let finished = program.finish(std::time::Duration::from_secs(300));
        assert_eq!(finished.code, 0, "{rung} BASALT_TEST_SEED={seed}: {}", finished.stderr);
    }
    must_have_served(&mounted, rung, 1);
}

#[test]
fn random_operations_do_as_the_model_says_by_default() {
    must_be_as_the_model_says("auto");
}

#[test]
fn random_operations_do_as_the_model_says_by_uring() {
    must_be_as_the_model_says("uring");
}

#[test]
fn random_operations_do_as_the_model_says_by_cloned_descriptors() {
    must_be_as_the_model_says("clone");
}

#[test]
fn random_operations_do_as_the_model_says_by_a_thread() {
    must_be_as_the_model_says("thread");
}
