//! The performance workflow's parts: the branch that keeps figures, and the workflow file's form.
//!
//! Needs git and python3 with its YAML parser; `tests/install` installs both.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DAY_S: u64 = 86_400;
const NOW_S: u64 = 1_790_000_000;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// A repository with a clone that has one commit.
struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().expect("a directory") };
        this.git(".", &["init", "-q", "--bare", "remote"]);
        this.git(".", &["clone", "-q", "remote", "clone"]);
        let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        this.git("clone", &[&identity[..], &["commit", "-q", "--allow-empty", "-m", "first"]].concat());
        this
    }

    fn git(&self, at: &str, args: &[&str]) -> String {
        let done = run(Command::new("git").args(args).current_dir(self.dir.path().join(at)));
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("UTF-8")
    }

    /// Exit code of `.ci/baselines` in the clone at that time.
    fn baselines(&self, now_s: u64, args: &[&str]) -> i32 {
        let mut command = Command::new(root().join(".ci/baselines"));
        command.args(args).current_dir(self.dir.path().join("clone"));
        let done = run(command.env("SOURCE_DATE_EPOCH", now_s.to_string()));
        done.status.code().expect("ends by itself")
    }

    /// Keeps a file with this content as the figures of a branch.
    fn keep(&self, now_s: u64, branch: &str, content: &str) {
        std::fs::write(self.dir.path().join("clone/figures"), content).expect("writes");
        assert_eq!(self.baselines(now_s, &["keep", "figures", branch]), 0);
    }

    /// The newest figures of the first of these branches that has any.
    fn latest(&self, branches: &[&str]) -> Option<String> {
        let code = self.baselines(NOW_S, &[&["latest", "found"], branches].concat());
        assert!([0, 3].contains(&code), "exit {code}");
        let found = self.dir.path().join("clone/found");
        (code == 0).then(|| std::fs::read_to_string(found).expect("was written"))
    }
}

#[test]
fn figures_are_kept_by_branch_and_the_newest_is_found() {
    let repository = Repository::new();
    assert_eq!(repository.latest(&["main"]), None);
    repository.keep(NOW_S, "main", "first");
    repository.keep(NOW_S + 60, "feature/a", "other");
    repository.keep(NOW_S + 120, "main", "second");
    assert_eq!(repository.latest(&["main"]).as_deref(), Some("second"));
    assert_eq!(repository.latest(&["feature/a", "main"]).as_deref(), Some("other"));
    assert_eq!(repository.latest(&["feature/b", "main"]).as_deref(), Some("second"));
    assert_eq!(repository.latest(&["feature/b"]), None);
    // A branch that only is a folder of others has none of its own.
    assert_eq!(repository.latest(&["feature"]), None);
}

#[test]
fn figures_are_dropped_after_365_days_and_not_before() {
    let repository = Repository::new();
    repository.keep(NOW_S, "old", "old");
    repository.keep(NOW_S + 30 * DAY_S, "young", "young");
    repository.keep(NOW_S + 364 * DAY_S, "main", "now");
    assert_eq!(repository.latest(&["old"]).as_deref(), Some("old"));
    repository.keep(NOW_S + 366 * DAY_S, "main", "later");
    assert_eq!(repository.latest(&["old"]), None);
    assert_eq!(repository.latest(&["young"]).as_deref(), Some("young"));
}

#[test]
fn what_baselines_cannot_do_is_2() {
    let repository = Repository::new();
    assert_eq!(repository.baselines(NOW_S, &["keep", "absent", "main"]), 2);
    assert_eq!(repository.baselines(NOW_S, &["nonsense"]), 2);
    std::fs::write(repository.dir.path().join("clone/figures"), "x").expect("writes");
    assert_eq!(repository.baselines(NOW_S, &["keep", "figures", "../../outside"]), 2);
    std::fs::remove_dir_all(repository.dir.path().join("remote")).expect("removed");
    assert_eq!(repository.baselines(NOW_S, &["latest", "found", "main"]), 2);
}

/// Prints a line for everything that is wrong with a workflow.
const CHECK: &str = r#"
import re, subprocess, sys, yaml
flow = yaml.safe_load(open(sys.argv[1]))
def wrong(what): print(what)
on = flow[True]  # YAML 1.1 reads the key `on` as true
for event in ("push", "pull_request"):
    event in on or wrong(f"no {event}")
flow["permissions"] == {"contents": "read"} or wrong("permissions of all jobs")
allowed = {"comment": {"pull-requests": "write"}, "keep": {"contents": "write"}, "judge": {}}
for name, job in flow["jobs"].items():
    job.get("permissions") == allowed.get(name) or wrong(f"permissions of {name}: {job.get('permissions')}")
    "timeout-minutes" in job or wrong(f"{name} has no bound in time")
    for step in job["steps"]:
        uses = step.get("uses", "x@" + "0" * 40)
        re.search(r"@[0-9a-f]{40}$", uses) or wrong(f"{uses} is not pinned")
        script = step.get("run", "")
        "${{" in script and wrong(f"{name}: an expression in a script is code of whoever names the branch")
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        done.returncode and wrong(f"{name}: {done.stderr}")
"#;

fn wrong_in(workflow: &Path) -> String {
    let done = run(Command::new("python3").args(["-c", CHECK]).arg(workflow));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).expect("UTF-8")
}

#[test]
fn the_workflow_is_yaml_pinned_bounded_and_may_do_little() {
    let path = root().join(".github/workflows/performance.yml");
    assert_eq!(wrong_in(&path), "");
    // The check finds what it is there for.
    let text = std::fs::read_to_string(&path).expect("is there");
    let dir = tempfile::tempdir().expect("a directory");
    let loosened = dir.path().join("loosened.yml");
    let changes = [
        ("@11bd71901bbe5b1630ceea73d27597364c9af683", "@v4"),
        ("permissions:\n  contents: read", "permissions:\n  contents: write"),
        ("    timeout-minutes: 90\n", ""),
        ("\"$BRANCH\" \"$FALLBACK\"", "${{ github.ref_name }}"),
    ];
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        std::fs::write(&loosened, text.replacen(from, to, 1)).expect("writes");
        assert_ne!(wrong_in(&loosened), "", "{from} → {to} is not noticed");
    }
}
