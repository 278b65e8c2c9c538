//! Nothing can be changed through either mount, by root neither, and every system call says so with the errno it should.

use tests::fuse::{self, Mounted, name_of};

use super::{must_have_served, put};

fn must_refuse_all_changes(rung: &str) {
    // Packed, and with a file of its own.
    for size in [5_000, 200_000] {
        let Some(mounted) = Mounted::start(rung) else { return };
        let (digest, other) = (put(&mounted.node, 1, size), put(&mounted.node, 2, size));
        for point in mounted.points() {
            fuse::must_hold(include_str!("readonly.py"), &[point.text(), name_of(&digest), name_of(&other)]);
        }
        assert_eq!(mounted.node.client().get(&digest).len(), size);
        must_have_served(&mounted, rung, usize::from(size > 64 << 10));
    }
}

#[test]
fn every_change_is_refused_by_default() {
    must_refuse_all_changes("auto");
}

#[test]
fn every_change_is_refused_by_uring() {
    must_refuse_all_changes("uring");
}

#[test]
fn every_change_is_refused_by_cloned_descriptors() {
    must_refuse_all_changes("clone");
}

#[test]
fn every_change_is_refused_by_a_thread() {
    must_refuse_all_changes("thread");
}

/// Only `--mount-ro` is read-only for the kernel; the other becomes writable one day. Requests are of 1 MiB only if it reads ahead
/// that far.
#[test]
fn the_kernel_is_told_what_each_mount_is() {
    let Some(mounted) = Mounted::start("auto") else { return };
    let has_option = |table: &[String], option: &str| {
        let options = table[0].split(' ').nth(5).expect("options");
        options.split(',').any(|o| o == option)
    };
    let (rw, ro) = (mounted.rw.table(), mounted.ro.table());
    assert!(has_option(&rw, "rw") && has_option(&ro, "ro"), "{rw:?} {ro:?}");
    for table in [rw, ro] {
        assert!(has_option(&table, "nosuid") && has_option(&table, "nodev"), "{table:?}");
        assert!(table[0].contains("default_permissions"), "{table:?}");
        assert!(!table[0].contains("allow_other"), "{table:?}");
        let device = table[0].split(' ').nth(2).expect("major:minor");
        let ahead = std::fs::read_to_string(format!("/sys/class/bdi/{device}/read_ahead_kb")).expect("/sys");
        assert!(ahead.trim().parse::<u64>().expect("a number") >= 1024, "read-ahead of {ahead} KiB");
    }
}
