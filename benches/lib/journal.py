"""The section `journal`: commits of the journal against bare write and fdatasync on the same disk."""

import shutil

from .figure import Figure, Margin, alternate
from .machine import SERVER_CORE, TARGET, WORK, Unmeasured, json_output, program

KIB = 1 << 10
# Writers, bytes of a record, bytes of the batch that they make, what it is called. A batch has a header of 64 B and
# 16 B for each record, and is padded to 4 KiB.
COMMITS = [(1, 4016, 4 * KIB, "one record, 4 KiB on disk"),
           (64, KIB, 68 * KIB, "64 records of 1 KiB"),
           (64, 4 * KIB, 260 * KIB, "64 records of 4 KiB")]


def journal(rounds, seconds):
    """4 KiB by latency, 64 records a commit by rate; both by CPU."""
    example = TARGET / "examples/journal"
    if not example.exists():
        raise Unmeasured(f"{example} is not built: cargo build --release -p benches --examples")
    figures = []
    for records, record_bytes, batch_bytes, label in COMMITS:
        note = "durable: O_DIRECT, fdatasync, over blocks written before"
        if records == 1:
            goal = Margin(f"journal commit, {label}: p50", "us", "lower", 25, note)
        else:
            goal = Figure(f"journal, {label} a commit", "records/s", "higher", 0.9, note)
        cost = Figure(f"journal, {label}: CPU of a commit", "us", "lower")

        def record(name, run, goal=goal, cost=cost, records=records):
            goal.add(name, run["p50_us"] if records == 1 else run["commits_per_s"] * records)
            cost.add(name, run["cpu_us"])

        alternate(rounds, {
            "bare": lambda size=batch_bytes: bare(size, seconds),
            "ours": lambda n=records, size=record_bytes, batch=batch_bytes: ours(example, n, size, batch, seconds)}, record)
        figures += [goal, cost]
    (WORK / "sync.dat").unlink(missing_ok=True)
    return figures


def bare(size, seconds):
    """The floor."""
    WORK.mkdir(parents=True, exist_ok=True)
    return json_output(program("probe_sync"), "--file", WORK / "sync.dat", "--bytes", size, "--seconds", seconds,
                       "--core", SERVER_CORE)


def ours(example, records, size, batch_bytes, seconds):
    """The journal in an empty directory."""
    directory = WORK / "journal"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    run = json_output(example, "--dir", directory, "--records", records, "--record-bytes", size, "--seconds", seconds,
                      "--core", SERVER_CORE)
    shutil.rmtree(directory)
    if abs(run["bytes"] / batch_bytes - 1) > 0.02:
        raise Unmeasured(f"a commit of {records} x {size} bytes wrote {run['bytes']} bytes where {batch_bytes} are compared")
    return run
