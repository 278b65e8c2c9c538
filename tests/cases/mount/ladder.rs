//! The ladder: what is taken when a better rung cannot be had, by `auto`, and what is said of it; a rung that was asked for is taken
//! or refused.
//!
//! What cannot be had is refused by the kernel itself: switched off, or forbidden to the node by a filter of system calls.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tests::command;
use tests::fuse::{self, MountPoint, Mounted};
use tests::node::{Setup, binary, cpus, without_our_settings};

use super::{metrics, put_all, text};

const SIZES: [usize; 5] = [0, 3000, 65_536, 300_000, 9 << 20];
/// Entries of one CPU's queue.
const DEPTH: usize = 16;

/// Without the device's clones.
fn no_clones() -> String {
    "ioctl:1=0x8004E500".into()
}

/// Without FUSE's rings, which are known by their size.
fn no_rings() -> String {
    format!("io_uring_setup:0={}", entries_of_a_column())
}

/// Without handing over the entries of those rings: so many at once, waiting for none.
fn no_registration() -> String {
    format!("io_uring_enter:1={}:2=0:3=1", entries_of_a_column())
}

/// Of a node with two columns; those CPUs that have no column are shared out.
fn entries_of_a_column() -> usize {
    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").expect("/sys");
    let last = possible.trim().rsplit(['-', ',']).next().and_then(|n| n.parse::<usize>().ok());
    let possible = last.expect("a number") + 1;
    (DEPTH * possible.div_ceil(cpus().len().min(2))).next_power_of_two()
}

/// By which the daemon is run so that the kernel refuses that, with `errno`.
fn without(errno: &str, rules: &[String]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/mount/forbid.py");
    let words = ["python3", script, errno].map(str::to_owned).into_iter();
    words.chain(rules.iter().cloned()).chain(["--".to_owned()]).collect()
}

fn by(wrapper: &[String]) -> Setup {
    Setup::new().by(&wrapper.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whatever is asked for, it is served.
fn must_serve(mounted: &Mounted, rung: &str, passed_over: &[&str]) {
    let (_, manifest) = put_all(&mounted.node, &SIZES);
    for point in mounted.points() {
        fuse::must_hold(include_str!("tree.py"), &[point.text(), text(&manifest)]);
    }
    assert_eq!(metrics::rungs(&mounted.node), [rung], "the label of the metrics");
    let log = mounted.node.stderr();
    let lines: Vec<&str> =
        log.lines().filter(|l| l.contains("mounted") && l.contains("passed_over")).collect();
    assert_eq!(lines.len(), 2, "one line a mount: {log}");
    for line in lines {
        assert!(line.contains(&format!("rung={rung}")), "{line}");
        let said = line.split("passed_over=").nth(1).expect("why");
        for word in passed_over {
            assert!(said.contains(word), "{word:?} is not said: {line}");
        }
        assert_eq!(passed_over.is_empty(), said.starts_with("\"\""), "{line}");
    }
}

/// What `doctor` says of the rung, under the same conditions.
fn must_be_told_by_doctor(setup: &Setup, wrapper: &[String], rung: &str, passed_over: &[&str]) {
    let mut words = wrapper.to_vec();
    words.extend([text(&binary()).to_owned(), "doctor".to_owned()]);
    let mut doctor = Command::new(&words[0]);
    without_our_settings(&mut doctor);
    doctor.args(&words[1..]).env("BASALT_DATA_DIR", &setup.data);
    let said = command::run(&mut doctor, Duration::from_secs(60)).text();
    let line = said.lines().find(|line| line.contains("fuse rung")).expect("a line");
    let is_said = line.contains(&format!("{rung} (--fuse-rung auto)"))
        && passed_over.iter().all(|word| line.contains(word));
    assert!(is_said, "{rung}, {passed_over:?}: {line}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").expect("/proc").contains("basalt-doctor"));
}

/// `auto` takes `rung` by this wrapper, and who insists on what was passed over is refused.
fn must_fall_to(rung: &str, wrapper: &[String], passed_over: &[&str], refused: &[&str]) {
    let Some(mounted) = Mounted::start_as(by(wrapper), "auto") else { return };
    must_serve(&mounted, rung, passed_over);
    must_be_told_by_doctor(&mounted.node.setup, wrapper, rung, passed_over);
    drop(mounted);
    for forced in refused {
        let point = MountPoint::new();
        let setup = by(wrapper).arg("--mount").arg(point.text()).arg("--fuse-rung").arg(*forced);
        let refused = setup.run_refused();
        assert_eq!(refused.code, 1, "{forced}: {}", refused.stderr);
        assert!(refused.stderr.contains("mount"), "{forced}: {}", refused.stderr);
        point.must_become_free(forced);
    }
}

#[test]
fn without_anything_amiss_the_best_is_taken_and_nothing_said() {
    let Some(mounted) = Mounted::start("auto") else { return };
    must_serve(&mounted, "uring", &[]);
    let _switch = fuse::keep_switched_on();
    must_be_told_by_doctor(&mounted.node.setup, &[], "uring", &[]);
}

#[test]
fn rings_that_are_switched_off_leave_clones() {
    let Some(mounted) = Mounted::start_switched_off("auto") else { return };
    must_serve(&mounted, "clone", &["uring: ", "switched off"]);
    fuse::switched_off(|| {
        must_be_told_by_doctor(&mounted.node.setup, &[], "clone", &["uring: ", "switched off"]);
    });
}

#[test]
fn rings_that_cannot_be_made_leave_clones() {
    must_fall_to("clone", &without("ENOMEM", &[no_rings()]), &["uring: Cannot allocate memory"], &["uring"]);
}

/// INIT has agreed to rings by then, and whoever comes in waits for them.
#[test]
fn rings_that_cannot_be_registered_leave_clones() {
    let wrapper = without("ENOMEM", &[no_registration()]);
    must_fall_to("clone", &wrapper, &["uring: Cannot allocate memory"], &["uring"]);
}

#[test]
fn without_rings_and_clones_a_thread_is_left() {
    let wrapper = without("EMFILE", &[no_rings(), no_clones()]);
    let passed_over = ["uring: Too many open files", "clone: Too many open files"];
    must_fall_to("thread", &wrapper, &passed_over, &["uring", "clone"]);
}

#[test]
fn without_clones_rings_that_cannot_be_registered_leave_a_thread() {
    let wrapper = without("ENOMEM", &[no_registration(), no_clones()]);
    must_fall_to("thread", &wrapper, &["uring: Cannot", "clone: Cannot"], &["uring", "clone"]);
}

#[test]
fn a_device_that_cannot_be_cloned_harms_no_rings() {
    let Some(mounted) = Mounted::start_as(by(&without("ENOTTY", &[no_clones()])), "auto") else { return };
    must_serve(&mounted, "uring", &[]);
}
