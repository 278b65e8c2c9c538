"""The section `amplification`: bytes that reach the disk for each byte stored, while stored blobs are replaced at random.

Ours: `write_bytes` of /proc/PID/io, what the node sent to its disk, whatever else the machine does. Beside it the sectors
written to the device (/sys/dev/block/…/stat), which hold the file system's own journal and what anybody else writes.
"""

import os
import pathlib

from .blobs import GIB, KIB, MIB, fill
from .figure import Limit
from .machine import WORK, Unmeasured
from .servers import ours

QUOTA_BYTES = 4 * GIB
FILLED = 0.8
# What is compared, its sizes, how often the quota is written, the goal.
KINDS = [("packed blobs of 4 to 64 KiB", (4 * KIB, 64 * KIB), 3, 1.3, 64),
         ("blobs of 4 MiB, a file each", (4 * MIB, 4 * MIB), 1, 1.1, 8)]


def amplification(rounds, seconds, scale=1.0):
    """One run of each: rounds would only repeat the same bytes."""
    del rounds, seconds
    quota = round(QUOTA_BYTES * scale)
    figures = []
    for kind, sizes, times, goal, conns in KINDS:
        note = f"quota {quota / GIB:g} GiB, {FILLED:.0%} full, {times} x the quota replaced"
        filling = Limit(f"{kind}, filling: bytes to disk / bytes stored", "x", "lower", goal)
        churning = Limit(f"{kind}, replacing at random: bytes to disk / bytes stored", "x", "lower", goal, note)
        rate = Limit(f"{kind}, replacing at random: stored", "MB/s", "higher", None, "DELETE and durable PUT")
        listing = WORK / "amplification-listing"
        listing.unlink(missing_ok=True)
        # All of the quota's room is to be there: a short disk would make it smaller.
        with ours(extra=["--disk-quota", quota, "--memory", "1GiB"]) as node:
            clients = ["--conns", conns]
            before = written(node.pids[0])
            run = fill(node.port, listing, 0, sizes, "--until-bytes", round(quota * FILLED), *clients)
            filled = written(node.pids[0])
            add(filling, before, filled, run)
            run = fill(node.port, listing, 10_000_000, sizes, "--until-bytes", times * quota, *clients, verb="churn")
            add(churning, filled, written(node.pids[0]), run)
            rate.add("ours", run["bytes"] / 1e6 / run["seconds"])
        listing.unlink()
        figures += [filling, churning, rate]
    return figures


def add(figure, before, after, run):
    """Both quotients."""
    figure.add("device", (after[1] - before[1]) / run["bytes"])
    figure.add("ours", (after[0] - before[0]) / run["bytes"])


def written(pid):
    """Bytes written so far: by the process, to the device."""
    io = pathlib.Path(f"/proc/{pid}/io").read_text().splitlines()
    by_process = next(int(line.split()[1]) for line in io if line.startswith("write_bytes:"))
    device = os.stat(WORK).st_dev
    stat = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    if not stat.exists():
        raise Unmeasured(f"{WORK} is not on a block device: set BASALT_BENCH_DIR")
    return by_process, int(stat.read_text().split()[6]) * 512
