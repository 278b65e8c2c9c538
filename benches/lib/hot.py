"""The section `hot`: the paths that every request takes, without I/O, by CPU time and by instructions.

CPU time is taken beside a loop that nothing in the project changes; instructions by callgrind, which repeats to a few in
ten thousand (hash seeds differ between runs) whatever the machine does meanwhile.
"""

import re

from .figure import Figure, alternate
from .machine import SERVER_CORE, TARGET, Unmeasured, json_output, pinned, run

# By path: what an operation is, and how many of it valgrind runs (it is 50 times slower).
PATHS = {
    "head": ("request head parsed", 2000),
    "range": ("two Range fields parsed", 2000),
    "lookup": ("index lookup + policy touch", 20000),
    "encode": ("batch of 8 records of 4 KiB encoded", 500),
    "decode": ("batch of 8 records of 4 KiB decoded", 500),
    "listing": ("listing page of 100 names", 50),
}
SLICES, SLICE_MS_MAX = 9, 20


def program():
    """The bench program, which is an example of its package."""
    path = TARGET / "examples/hot_paths"
    if not path.exists():
        raise Unmeasured(f"{path} is not built: cargo build --release -p benches --examples")
    return path


def instructions(path, operations, planted):
    """Instructions per operation of a path, those of its set-up left out."""
    words = run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
                "--toggle-collect=*measured_operations*", program(), "--path", path, "--count", operations,
                "--plant", planted).stderr
    found = re.search(r"Collected : (\d+)", words)
    if not found:
        raise Unmeasured(f"callgrind of {path}: no count in {words[-200:]!r}")
    return int(found.group(1)) / operations


def hot(rounds, seconds, planted=0):
    """Both figures of every path. `planted`: per cent of the operations done twice, for the test of benches/compare."""
    cost = {p: Figure(f"{what}: CPU", "ns", "lower") for p, (what, _) in PATHS.items()}
    count = {p: Figure(f"{what}: instructions", "instructions", "lower") for p, (what, _) in PATHS.items()}
    slice_ms = max(1, min(SLICE_MS_MAX, round(seconds * 1000 / SLICES / 2)))

    def record(_, result):
        for path, figure in cost.items():
            figure.add("probe", result[path]["probe_ns"])
            figure.add("ours", result[path]["cpu_ns"])
            count[path].add("ours", instructions(path, PATHS[path][1], planted))

    alternate(rounds, {"ours": lambda: json_output(*pinned(
        SERVER_CORE, program(), "--slices", SLICES, "--slice-ms", slice_ms, "--plant", planted))}, record)
    return [*cost.values(), *count.values()]
