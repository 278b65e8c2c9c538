"""The section `hitratio`: what our policy misses beside the published S3-FIFO, over streams that imitate public traces.

The figures are computed, not timed: one run says all. See benches/tests/hit_ratio.rs.
"""

import os
import subprocess

from .figure import Figure, Margin
from .machine import ROOT, Unmeasured

REQUESTS = 1_000_000
POINTS_MAX = 0.5
COLUMNS = 6


def hitratio(rounds, seconds):
    """Misses of every stream and cache size, in per cent; and of the disk's gate, what it writes."""
    del rounds, seconds
    count = os.environ.get("HIT_RATIO_REQUESTS", str(REQUESTS))
    command = ["cargo", "test", "-q", "--release", "-p", "benches", "--test", "hit_ratio", "--", "--nocapture",
               "--test-threads", "1"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "HIT_RATIO_REQUESTS": count}, capture_output=True,
                          text=True, timeout=1800)
    if done.returncode != 0:
        raise Unmeasured(f"hit_ratio: {done.stderr.strip()[-400:]}")
    figures, gate = [], False
    for line in done.stdout.splitlines():
        # A table may begin on the line of the test runner's own words.
        cells = [cell.strip() for cell in line[line.find("|") + 1:].rstrip(" |").split("|")]
        if len(cells) != COLUMNS or cells[0].startswith("---"):
            continue
        if cells[0].endswith(" requests"):
            # Both tables have six columns; the second of the head tells them apart.
            gate = cells[1] == "disk"
            continue
        figures += gated(cells) if gate else missed(cells, count)
    if not figures:
        raise Unmeasured("hit_ratio printed no table")
    return figures


def missed(cells, count):
    """A line of the policy's table."""
    trace, size, weights, published, mine, _ = cells
    figure = Margin(f"misses, {trace}, cache of {size}, weights {weights}", "points", "lower", POINTS_MAX, f"{count} requests")
    figure.add("published", float(published))
    figure.add("ours", float(mine))
    return [figure]


def gated(cells):
    """A line of the gate's table."""
    trace, size, all_fetched, fetched, all_written, written = cells
    wrote = Figure(f"disk gate, {trace}, {size}: written of what was asked for", "%", "lower")
    wrote.add("all written", float(all_written))
    wrote.add("ours", float(written))
    fetch = Figure(f"disk gate, {trace}, {size}: fetched of what was asked for", "%", "lower")
    fetch.add("all written", float(all_fetched))
    fetch.add("ours", float(fetched))
    return [wrote, fetch]
