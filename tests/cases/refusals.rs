//! Starts that must fail: the exit code, one line that says what and what to do, nothing touched.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::command::{self, Finished};
use tests::content;
use tests::node::{self, Node, Setup};
use tests::{disk, skip};

/// Panics unless the refusal has this code and one line with all of `words`.
fn must_say(finished: &Finished, code: i32, words: &[&str]) {
    let lines: Vec<&str> = finished.stderr.lines().collect();
    assert_eq!(finished.code, code, "{}", finished.stderr);
    let has_all = |line: &&&str| {
        let line = line.to_lowercase();
        words.iter().all(|word| line.contains(&word.to_lowercase()))
    };
    let saying = lines.iter().filter(has_all).count();
    assert_eq!(saying, 1, "one line with {words:?}: {}", finished.stderr);
    assert!(lines.len() <= 4, "more than a line or two: {}", finished.stderr);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn a_data_directory_in_use_is_refused() {
    let node = Node::start();
    let digest = node.client().put(b"hello");
    let second = Setup::new().data(&node.setup.data);
    let dir = node.setup.data.to_str().expect("UTF-8");
    let before = disk::snapshot(&node.setup.data);
    must_say(&second.run_refused(), 1, &[dir, "use"]);
    assert!(disk::snapshot(&node.setup.data) == before, "the directory was touched");
    node.client().get(&digest);
}

#[test]
fn a_file_where_the_data_directory_should_be_is_refused() {
    let setup = Setup::new();
    fs::write(&setup.data, "a file").expect("written");
    let dir = setup.data.to_str().expect("UTF-8");
    must_say(&setup.run_refused(), 1, &[dir]);
    assert_eq!(fs::read_to_string(&setup.data).expect("still a file"), "a file");
}

#[test]
fn a_data_directory_that_cannot_be_made_is_refused() {
    let setup = Setup::new().data("/proc/basalt/data");
    must_say(&setup.run_refused(), 1, &["/proc/basalt"]);
}

#[test]
fn a_directory_of_someone_else_is_left_alone() {
    let setup = Setup::new();
    fs::create_dir(&setup.data).expect("made");
    fs::write(setup.data.join("thesis.tex"), "precious").expect("written");
    let before = disk::snapshot(&setup.data);
    let finished = setup.run_refused();
    assert!([1, 78].contains(&finished.code), "{}", finished.stderr);
    assert!(disk::snapshot(&setup.data) == before, "the directory was touched");
}

#[test]
fn a_newer_format_is_78_and_nothing_is_touched() {
    let mut node = Node::start();
    let digest = node.client().put(&content::bytes(1, 100_000));
    node.stop();
    let format = node.setup.data.join("FORMAT");
    let text = fs::read_to_string(&format).expect("a file FORMAT says the version");
    let newer = newer_version(&text);
    fs::write(&format, &newer).expect("written");
    let before = disk::snapshot(&node.setup.data);
    let dir = node.setup.data.to_str().expect("UTF-8");
    must_say(&node.setup.run_refused(), 78, &[dir, "format"]);
    assert!(disk::snapshot(&node.setup.data) == before, "the directory was touched");
    fs::write(&format, text).expect("written");
    let node = node.start_again();
    assert_eq!(node.client().get(&digest).len(), 100_000);
}

/// The same text with its first whole number made 1000 larger.
fn newer_version(text: &str) -> String {
    let from = text.find(|c: char| c.is_ascii_digit()).expect("a number in FORMAT");
    let rest = &text[from..];
    let to = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let version: u64 = rest[..to].parse().expect("a number");
    format!("{}{}{}", &text[..from], version + 1000, &rest[to..])
}

#[test]
fn a_taken_port_is_refused_and_its_holder_named() {
    let pid = std::process::id().to_string();
    for (flag, which) in [("blob", 0), ("ops", 1)] {
        let setup = Setup::new();
        let addr = if which == 0 { setup.blob } else { setup.ops };
        let held = TcpListener::bind(addr).expect("free");
        let finished = setup.run_refused();
        must_say(&finished, 1, &[&addr.to_string(), &pid]);
        let own = fs::read_to_string("/proc/self/comm").expect("/proc");
        assert!(finished.stderr.contains(own.trim()), "{flag}: {}", finished.stderr);
        drop(held);
        setup.start();
    }
}

#[test]
fn a_port_of_another_node_is_not_shared() {
    let node = Node::start();
    for which in ["blob", "ops"] {
        let mut second = Setup::new();
        match which {
            "blob" => second.blob = node.setup.blob,
            _ => second.ops = node.setup.ops,
        }
        must_say(&second.run_refused(), 1, &[&node.pid().to_string(), "basalt"]);
    }
}

/// Runs its arguments where io_uring_setup fails with EPERM, as Docker's default profile has it.
const WITHOUT_IO_URING: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
op = lambda code, jt, jf, k: struct.pack("HBBI", code, jt, jf, k)
IO_URING_SETUP, EPERM = 425, 1
program = b"".join([
    op(0x20, 0, 0, 0),                       # load the system call's number
    op(0x15, 0, 1, IO_URING_SETUP),          # is it ours?
    op(0x06, 0, 0, 0x00050000 | EPERM),      # fail
    op(0x06, 0, 0, 0x7fff0000),              # allow
])
buffer = ctypes.create_string_buffer(program, len(program))
class Prog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
prog = Prog(len(program) // 8, ctypes.addressof(buffer))
ul = ctypes.c_ulong
if libc.prctl(38, ul(1), ul(0), ul(0), ul(0)) or libc.prctl(22, ul(2), ctypes.byref(prog), ul(0), ul(0)):
    sys.exit("no seccomp: errno %d" % ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
"#;

fn can_filter_system_calls() -> bool {
    let mut python = Command::new("python3");
    python.args(["-c", WITHOUT_IO_URING, "/bin/true"]);
    let works = python.output().is_ok_and(|output| output.status.success());
    works || !skip::told_to_skip("seccomp", "python3 with prctl(PR_SET_SECCOMP) is needed")
}

#[test]
fn without_io_uring_serve_and_doctor_say_cause_and_cure_and_exit_69() {
    if !can_filter_system_calls() {
        return;
    }
    let setup = Setup::new().by(&["python3", "-c", WITHOUT_IO_URING]);
    let finished = setup.run_refused();
    must_say(&finished, 69, &["error:", "io_uring"]);
    assert!(finished.stderr.contains("fix:"), "the cure: {}", finished.stderr);
    let mut doctor = Command::new("python3");
    doctor.args(["-c", WITHOUT_IO_URING]).arg(node::binary()).arg("doctor");
    node::without_our_settings(&mut doctor);
    let finished = command::run(doctor.current_dir(setup.path("")), Duration::from_secs(30));
    assert_eq!(finished.code, 69, "{}{}", finished.text(), finished.stderr);
    assert!(finished.text().contains("missing"), "{}", finished.text());
}

#[test]
fn cpus_is_refused_with_a_hint() {
    for form in [vec!["--cpus", "2"], vec!["--cpus=2"]] {
        let setup = form.into_iter().fold(Setup::new(), Setup::arg);
        let finished = setup.run_refused();
        assert_eq!(finished.code, 2, "{}", finished.stderr);
        assert!(finished.stderr.contains("--cpuset"), "{}", finished.stderr);
        assert!(!setup.data.exists(), "the directory was made");
    }
}

#[test]
fn a_cpu_that_is_not_there_is_named() {
    let finished = Setup::new().cpuset("99").run_refused();
    assert!(finished.stderr.contains("99"), "{}", finished.stderr);
    let finished = Setup::new().cpuset(format!("{},98", node::cpuset(1))).run_refused();
    assert!(finished.stderr.contains("98"), "{}", finished.stderr);
}

#[test]
fn a_cpu_outside_the_affinity_mask_is_named() {
    let cpus = node::cpus();
    let [first, second, ..] = cpus[..] else {
        skip::told_to_skip("cpus", "one CPU only");
        return;
    };
    let only_first = first.to_string();
    let setup = Setup::new().cpuset(second.to_string()).by(&["taskset", "-c", &only_first]);
    let finished = setup.run_refused();
    assert!(finished.stderr.contains(&second.to_string()), "{}", finished.stderr);
}

#[test]
fn a_listener_that_is_not_loopback_needs_insecure() {
    for which in ["blob", "ops"] {
        let mut setup = Setup::new();
        let addr = if which == "blob" { &mut setup.blob } else { &mut setup.ops };
        addr.set_ip([0, 0, 0, 0].into());
        let finished = setup.run_refused();
        assert!([2, 78].contains(&finished.code), "{}", finished.stderr);
        assert!(finished.stderr.contains("--insecure"), "{}", finished.stderr);
        let node = setup.arg("--insecure").start();
        node.client().page("");
    }
}

#[test]
fn faults_of_the_configuration_are_78_and_named() {
    let setup = Setup::new();
    let file = setup.path("basalt.toml");
    let setup = setup.arg("--config").arg(file.to_str().expect("UTF-8"));
    for (text, words) in [
        ("disk-qota = \"1GiB\"\n", &["disk-qota", "disk-quota"][..]),
        ("memory = \"1GiB\"\nlog_levl = \"info\"\n", &["log_levl", "log-level"]),
        ("disk-quota = \"lots\"\n", &["lots"]),
        ("engines = [\"cheese\"]\n", &["cheese"]),
        ("this is no TOML\n", &["basalt.toml"]),
    ] {
        fs::write(&file, text).expect("written");
        let finished = setup.run_refused();
        assert_eq!(finished.code, 78, "{text}: {}", finished.stderr);
        for word in words {
            assert!(finished.stderr.contains(word), "{text} without {word}: {}", finished.stderr);
        }
        assert!(!setup.data.exists(), "the directory was made");
    }
}

#[test]
fn faults_of_the_command_line_are_2() {
    for args in [
        &["serve", "--no-such-flag"][..],
        &["serve", "--engines", "meta"],
        &["serve", "extra"],
        &["nonsense"],
        &["get"],
    ] {
        let mut command = Command::new(node::binary());
        node::without_our_settings(&mut command);
        let finished = command::run(command.args(args).current_dir("/"), Duration::from_secs(10));
        assert_eq!(finished.code, 2, "{args:?}: {}", finished.stderr);
    }
    assert!(!Path::new("/basalt-data").exists());
}
