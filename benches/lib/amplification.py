"""The sections `amplification…`: bytes that reach the disk for each byte stored, while stored blobs are replaced at random.

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
# Numbers of the blobs that replace others begin here.
CHURN_FIRST = 10_000_000
PACKED, PACKED_SIZES = "packed blobs of 4 to 64 KiB", (4 * KIB, 64 * KIB)
FILES, FILES_SIZES = "blobs of 4 MiB, a file each", (4 * MIB, 4 * MIB)


def amplification(rounds, seconds, scale=1.0):
    """Packed blobs where space is short."""
    return replace(PACKED, PACKED_SIZES, (0.8, 3), scale, 1.3, 64)


def half_full(rounds, seconds, scale=1.0):
    """The same where half of the quota is free."""
    return replace(PACKED, PACKED_SIZES, (0.5, 3), scale, 1.3, 64)


def files(rounds, seconds, scale=1.0):
    """Blobs that are files."""
    return replace(FILES, FILES_SIZES, (0.8, 1), scale, 1.1, 8)


def replace(kind, sizes, how_much, scale, goal, conns):
    """One run: rounds would only repeat the same bytes."""
    filled, times = how_much
    quota = round(QUOTA_BYTES * scale)
    note = f"quota {quota / GIB:g} GiB, {filled:.0%} full, {times} x the quota replaced"
    filling = Limit(f"{kind}, filling to {filled:.0%}: bytes to disk / bytes stored", "x", "lower", goal)
    churning = Limit(f"{kind}, {filled:.0%} full, replaced at random: bytes to disk / bytes stored", "x", "lower", goal, note)
    rate = Limit(f"{kind}, {filled:.0%} full, replaced at random: stored", "MB/s", "higher", None, "DELETE and durable PUT")
    refused = Limit(f"{kind}, {filled:.0%} full, replaced at random: answers 503 and 507, tried again", "per blob", "lower")
    listing = WORK / "amplification-listing"
    listing.unlink(missing_ok=True)
    with ours(extra=["--disk-quota", quota, "--memory", "1GiB"]) as node:
        clients = ["--conns", conns]
        before = written(node.pids[0])
        run = fill(node.port, listing, 0, sizes, "--until-bytes", round(quota * filled), *clients)
        after = written(node.pids[0])
        add(filling, before, after, run)
        run = fill(node.port, listing, CHURN_FIRST, sizes, "--until-bytes", times * quota, *clients, verb="churn")
        add(churning, after, written(node.pids[0]), run)
        rate.add("ours", run["bytes"] / 1e6 / run["seconds"])
        # 0 is no figure: one in all is the least that is shown.
        refused.add("ours", max(run["refused"], 1) / run["blobs"])
    listing.unlink()
    return [filling, churning, rate, refused]


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
