"""What the sections `slice*` share: an origin, the caches before it (nginx, Varnish, ours), its files, and runs of load.

A path with a query of its own is the same file to the origin and another object to a cache: that is how a run is cold without a
restart of the caches. What the origin was asked for stands in its log.
"""

import contextlib
import itertools
import os
import shutil
import time

from .figure import Figure
from .machine import WORK, Unmeasured, load, run
from .servers import OURS_OPS_PORT, Running, ours, peer, warm

SLICE_PORT = 28113
FILES = WORK / "files/slice"
LOG = WORK / "slice-origin/fetches"
# The origin's log is flushed after 0.1 s; a fetch stands in it once it is over, which may be after its client has what it wants.
LOG_S, LOG_MAX_S = 0.4, 10
# Of the bytes of a run that is to be hot.
FROM_DISK_PART_MAX = 0.03
# So often, with time between for what waits to be stored.
WARM_MAX, STORED_S = 16, 0.5
fresh = itertools.count(time.time_ns())


def files(size, count):
    """The paths of `count` files of `size` bytes at the origin."""
    FILES.mkdir(parents=True, exist_ok=True)
    paths = []
    for at in range(count):
        file = FILES / f"{size}-{at}"
        if not file.exists() or file.stat().st_size != size:
            file.write_bytes(os.urandom(size))
        paths.append(f"/slice/{file.name}")
    return paths


def fresh_names(paths):
    """The same objects under names that no cache has seen."""
    return [f"{path}?{next(fresh)}" for path in paths]


@contextlib.contextmanager
def caches(slice_bytes=None, memory="2GiB", names=("nginx", "varnish", "ours")):
    """The origin and the caches before it, by name, all empty. Slices of nginx are of 1 MiB, ours by default, if not said."""
    size = ["--slice-size", slice_bytes] if slice_bytes else []
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(peer("slice-origin"))
        LOG.write_bytes(b"")
        found = {}
        if "nginx" in names:
            found["nginx"] = stack.enter_context(peer("slice", NGINX_SLICE=str(slice_bytes or "1m")))
        if "varnish" in names:
            found["varnish"] = stack.enter_context(peer("slice-varnish"))
        if "ours" in names:
            node = stack.enter_context(ours(extra=[
                "--memory", memory, "--slice-listen", f"127.0.0.1:{SLICE_PORT}",
                "--slice-origin", f"http://127.0.0.1:{origin.port}", *size]))
            found["ours"] = Running("ours", SLICE_PORT, node.pids)
        yield found
    shutil.rmtree(FILES, ignore_errors=True)


def get(server, paths, *arguments, seconds, warmup=0.5):
    """One run of GETs over `paths`."""
    listing = WORK / f"paths-slice-{server.name}"
    listing.write_text("\n".join(paths))
    return load(server.port, server.pids, "--paths-file", listing, *arguments, seconds=seconds, warmup=warmup)


def get_cold(server, paths, *arguments):
    """Each of `paths` once, in order, under a new name. What earlier runs wrote is on the disk before it begins."""
    os.sync()
    paths = fresh_names(paths)
    return get(server, paths, "--in-order", "--discard", *arguments, seconds=120, warmup=0), paths


def heat(at, paths):
    """Asks for all until they come from RAM: ours keeps in RAM what is asked for again."""
    for name, server in at.items():
        for _ in range(WARM_MAX):
            before = by_source() if name == "ours" else {}
            warm(server.port, paths)
            if name != "ours":
                break
            given = {source: count - before.get(source, 0) for source, count in by_source().items()}
            part = 1 - given.get("l0", 0) / max(sum(given.values()), 1)
            if part <= FROM_DISK_PART_MAX:
                break
            time.sleep(STORED_S)
        else:
            raise Unmeasured(f"asked for {WARM_MAX} times, {part:.0%} still do not come from RAM: {given}")


def by_source():
    """Bytes that our node gave readers so far, by where they were."""
    text = run("curl", "-sf", f"http://127.0.0.1:{OURS_OPS_PORT}/metrics").stdout
    counts = {}
    for line in text.splitlines():
        if line.startswith("slicecache_bytes_total{"):
            source = line.split('from="')[1].split('"')[0]
            counts[source] = counts.get(source, 0) + float(line.rsplit(" ", 1)[1])
    return counts


def fetched(paths):
    """What the origin gave of `paths` in answers of 200 and 206: first and last byte of each range, and bytes in all."""
    due, before, seen = time.monotonic() + LOG_MAX_S, None, logged(paths)
    while time.monotonic() < due and (not seen[0] or seen != before):
        time.sleep(LOG_S)
        before, seen = seen, logged(paths)
    return seen


def logged(paths):
    """The same, of what stands in the log by now."""
    wanted, ranges, total = set(paths), [], 0
    for line in LOG.read_text().splitlines():
        words = line.split()
        if words[0] in wanted and words[-2] in ("200", "206"):
            total += int(words[-1])
            ranges.append(words[1])
    return ranges, total


class Pair:
    """A quantity of ours against nginx and Varnish, each with a goal of its own (None: only shown)."""

    def __init__(self, name, unit, better, nginx=None, varnish=None, note=""):
        self.figures = {other: Figure(f"{name}, against {other}", unit, better, reach, note)
                        for other, reach in [("nginx", nginx), ("varnish", varnish)]}

    def add(self, name, value):
        """Takes one round's value."""
        for other, figure in self.figures.items():
            if name in (other, "ours"):
                figure.add(name, value)

    def all(self):
        """Both."""
        return list(self.figures.values())


def mb_per_cpu_s(seen):
    """What a CPU-second of the server brought."""
    return seen["bytes"] / 1e6 / max(seen["server_cpu_s"], 0.01)
