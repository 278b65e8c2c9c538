//! `benches/compare` as its users call it: what it lets pass, what it fails, and what it cannot read.
//!
//! Needs python3 and, for the planted slowdown, valgrind; `tests/install` installs both.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Tries for two runs of the same program to compare as the same: a busy neighbour may spoil one.
const TRIES: usize = 4;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}

fn compare(base: &Path, new: &Path, more: &[&str]) -> (i32, String, String) {
    let done = Command::new(root().join("benches/compare")).arg(base).arg(new).args(more).output();
    said(&done.expect("benches/compare starts"))
}

fn said(done: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (done.status.code().expect("ends by itself"), text(&done.stdout), text(&done.stderr))
}

/// A result file with these figures of one section, each `(name, better, rounds by contender)`.
fn result(dir: &Path, name: &str, figures: &[(&str, &str, Value)]) -> PathBuf {
    let figures: Vec<Value> = figures
        .iter()
        .map(|(name, better, rounds)| {
            let reference = rounds.get("probe").map(|_| "probe");
            json!({"name": name, "unit": "us", "better": better, "rounds": rounds, "reference": reference})
        })
        .collect();
    let path = dir.join(name);
    let report = json!({"schema": "basalt-figures/1", "machine": {}, "sections": {"s": figures}});
    std::fs::write(&path, report.to_string()).expect("writes");
    path
}

/// The verdict on one figure that had these rounds before and has those now.
fn verdict(better: &str, base: Value, new: Value) -> (i32, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let base = result(dir.path(), "base.json", &[("f", better, base)]);
    let new = result(dir.path(), "new.json", &[("f", better, new)]);
    let (code, table, _) = compare(&base, &new, &["--threshold", "10"]);
    let line = table.lines().find(|line| line.starts_with("| s: f |")).expect("a line of the figure");
    let verdict = line.trim_end_matches(" |").rsplit("| ").next().expect("the last cell");
    (code, verdict.to_owned())
}

#[test]
fn the_direction_stands_in_the_figure() {
    let (low, high) = (json!({"ours": [10.0, 10.1, 10.2]}), json!({"ours": [13.0, 13.1, 13.2]}));
    assert_eq!(verdict("lower", low.clone(), high.clone()), (1, "**WORSE**".into()));
    assert_eq!(verdict("higher", low.clone(), high.clone()), (0, "better".into()));
    assert_eq!(verdict("higher", high.clone(), low.clone()), (1, "**WORSE**".into()));
    assert_eq!(verdict("lower", high, low.clone()), (0, "better".into()));
    assert_eq!(verdict("lower", low, json!({"ours": [10.9, 11.0, 11.1]})), (0, "same".into()));
}

#[test]
fn what_the_spread_of_either_covers_is_not_worse() {
    let wide = json!({"ours": [8.0, 10.0, 14.0, 16.0]});
    assert_eq!(verdict("lower", wide, json!({"ours": [14.0, 14.1, 14.2]})).1, "within the spread");
    // One disturbed round out of five hides nothing.
    let disturbed = json!({"ours": [10.0, 10.0, 10.1, 10.2, 40.0]});
    assert_eq!(verdict("lower", disturbed, json!({"ours": [13.0, 13.0, 13.1, 13.2, 9.0]})).0, 1);
}

#[test]
fn beside_a_probe_the_ratio_counts() {
    let base = json!({"ours": [10.0, 10.1], "probe": [5.0, 5.0]});
    let slower_machine = json!({"ours": [20.0, 20.2], "probe": [10.0, 10.0]});
    assert_eq!(verdict("lower", base.clone(), slower_machine), (0, "same".into()));
    let hidden_by_a_faster_machine = json!({"ours": [10.0, 10.1], "probe": [4.0, 4.0]});
    assert_eq!(verdict("lower", base.clone(), hidden_by_a_faster_machine).0, 1);
    // Without the probe in one of them, ours alone is all there is.
    assert_eq!(verdict("lower", base, json!({"ours": [20.0, 20.2]})).0, 1);
}

#[test]
fn figures_that_are_gone_are_named_and_fail_unless_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    let rounds = json!({"ours": [1.0]});
    let both = [("kept", "lower", rounds.clone()), ("gone", "lower", rounds.clone())];
    let base = result(dir.path(), "base.json", &both);
    let new = result(dir.path(), "new.json", &[both[0].clone(), ("fresh", "lower", rounds)]);
    let (code, table, why) = compare(&base, &new, &[]);
    assert_eq!((code, why.as_str()), (1, "benches/compare: MISSING: s: gone\n"));
    assert!(table.contains("| s: fresh | us | - | 1 (1..1) | - | new |"), "{table}");
    let (code, table, _) = compare(&base, &new, &["--allow-missing"]);
    assert!(code == 0 && table.contains("**MISSING**"), "{table}");
}

#[test]
fn what_cannot_be_read_is_one_line_and_2() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = result(dir.path(), "good.json", &[("f", "lower", json!({"ours": [1.0]}))]);
    let bad = dir.path().join("bad.json");
    let cases = [
        ("{\"sections\": ", "not JSON"),
        ("[]", "schema None"),
        ("{\"schema\": \"basalt-figures/99\"}", "schema 'basalt-figures/99'"),
        ("{\"schema\": \"basalt-figures/1\"}", "damaged result"),
        (
            "{\"schema\":\"basalt-figures/1\",\"machine\":{},\"sections\":{\"s\":[{\"name\":\"f\",\"unit\":\"us\",\
             \"better\":\"sideways\",\"rounds\":{}}]}}",
            "better is 'sideways'",
        ),
        (
            "{\"schema\":\"basalt-figures/1\",\"machine\":{},\"sections\":{\"s\":[{\"name\":\"f\",\"unit\":\"us\",\
             \"better\":\"lower\",\"rounds\":{\"ours\":[NaN]}}]}}",
            "not numbers above 0",
        ),
    ];
    for (text, expected) in cases {
        std::fs::write(&bad, text).expect("writes");
        let (code, out, why) = compare(&good, &bad, &[]);
        assert_eq!((code, out.as_str(), why.lines().count()), (2, "", 1), "{text}: {why}");
        assert!(why.contains("bad.json") && why.contains(expected), "{why}");
    }
    let other = result(dir.path(), "other.json", &[("g", "lower", json!({"ours": [1.0]}))]);
    assert!(compare(&good, &other, &[]).2.contains("no figure in common"));
    let turned = result(dir.path(), "turned.json", &[("f", "higher", json!({"ours": [1.0]}))]);
    assert!(compare(&good, &turned, &[]).2.contains("better is 'lower' in one file"));
    assert_eq!(compare(&good, &dir.path().join("absent"), &[]).0, 2);
    assert_eq!(compare(&good, &good, &["--threshold", "-1"]).0, 2);
    assert_eq!(compare(&good, &good, &["--threshold", "nan"]).0, 2);
    assert_eq!(compare(&good, &good, &["--nonsense"]).0, 2);
    assert_eq!(compare(&good, &good, &[]).0, 0);
}

/// Measures the paths without I/O, `planted` per cent of their work done twice.
fn hot(out: &Path, planted: &str) {
    let executable = std::env::current_exe().expect("a test has a path");
    let profile = executable.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let done = Command::new(root().join("benches/run"))
        .args(["hot", "--rounds", "4", "--seconds", "0.4", "--plant", planted, "--out"])
        .arg(out)
        .env("CARGO_TARGET_DIR", profile.parent().expect("target"))
        .env("BASALT_BENCH_PROFILE", profile.file_name().expect("a profile"))
        .output();
    let (code, _, why) = said(&done.expect("benches/run starts"));
    assert_eq!(code, 0, "{why}");
}

/// Figures with this verdict whose name ends in `what`.
fn count(table: &str, what: &str, verdict: &str) -> usize {
    let of = |line: &&str| line.contains(&format!(": {what} |")) && line.contains(verdict);
    table.lines().filter(of).count()
}

/// Names of the figures that are worse.
fn worse(table: &str) -> BTreeSet<String> {
    let lines = table.lines().filter(|line| line.starts_with('|') && line.contains("**WORSE**"));
    lines.filter_map(|line| Some(line.split('|').nth(1)?.trim().to_owned())).collect()
}

#[test]
fn a_planted_slowdown_by_20_percent_is_found_and_none_is_found_where_none_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let [base, again, planted] = ["base", "again", "planted"].map(|name| dir.path().join(name));
    let mut tables = String::new();
    // Other load shifts CPU time for seconds on end, of one figure now and of another then: what is worse is so every time.
    let mut suspects: Option<BTreeSet<String>> = None;
    for _ in 0..TRIES {
        hot(&base, "0");
        hot(&again, "0");
        let (_, table, _) = compare(&base, &again, &[]);
        assert_eq!(count(&table, "instructions", "WORSE"), 0, "counts repeat whatever the load: {table}");
        tables += &table;
        let worse = worse(&table);
        suspects = Some(suspects.map_or(worse.clone(), |before| &before & &worse));
        if suspects.as_ref().is_some_and(BTreeSet::is_empty) {
            break;
        }
    }
    let suspects = suspects.expect("tried");
    assert!(
        suspects.is_empty(),
        "of the same program these are worse in {TRIES} tries: {suspects:?}\n{tables}"
    );
    hot(&planted, "20");
    let (code, table, why) = compare(&base, &planted, &[]);
    assert_eq!(code, 1, "{table}");
    assert_eq!(count(&table, "instructions", "**WORSE**"), 6, "{table}");
    assert!(count(&table, "CPU", "**WORSE**") >= 1, "CPU time does not show it at all: {table}");
    assert!(why.contains("WORSE: hot: request head parsed: instructions"), "{why}");
}
