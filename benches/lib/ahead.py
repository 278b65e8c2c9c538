"""The section of reading ahead: the same node with --prefetch on and off, before sequential readers and random ones."""

import os
import shutil

from .figure import Figure, alternate
from .machine import WORK, Unmeasured, load
from .servers import ours, store, warm

KIB, MIB = 1 << 10, 1 << 20
# Large against the RAM of the small node, small against that of the large one.
BLOB, BLOBS = 512 * MIB, 2
LARGE, SMALL = "3GiB", "512MiB"
CONNS_RANDOM = 16


def drop_page_cache():
    """Cold also for what reads through the page cache."""
    for directory, _, files in os.walk(WORK / "ours"):
        for name in files:
            with open(os.path.join(directory, name), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def node(prefetch, memory):
    """A node on the data that is there, nothing of it in RAM."""
    drop_page_cache()
    return ours(fresh=False, extra=["--prefetch", prefetch, "--memory", memory])


def prefetch(rounds, seconds):
    """Cold sequential GETs, whole and by ranges; ranges of 4 KiB at random, from RAM and from disk."""
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    with ours(fresh=False, extra=["--memory", LARGE]) as running:
        paths = [store(running.port, os.urandom(BLOB)) for _ in range(BLOBS)]
    figures = sequential(rounds, paths, LARGE, "fits RAM") + sequential(rounds, paths, SMALL, "twice the RAM")
    figures += random(rounds, seconds, paths[:1], LARGE, "in RAM") + random(rounds, seconds, paths, SMALL, "on disk")
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    return figures


def sequential(rounds, paths, memory, note):
    """One reader from the first byte to the last, after a restart."""
    figures = []
    for label, reach, shape, requests in [
            ("GET 512 MiB", 1.5, ["--verify-size", BLOB], BLOBS),
            ("ranges of 1 MiB in order", 1.5, ["--range", MIB], BLOBS * BLOB // MIB)]:
        rate = Figure(f"cold {label}, one reader, on against off", "MB/s", "higher", reach, note)
        cost = Figure(f"cold {label}, one reader, on against off: CPU, process + softirq", "us/MiB", "lower", None, note)

        def run(prefetch, shape=shape, requests=requests):
            with node(prefetch, memory) as running:
                return load(running.port, running.pids, *listed(paths), *shape, "--in-order", "--discard",
                            "--conns", 1, "--requests", requests, seconds=120, warmup=0)

        def record(name, result, rate=rate, cost=cost):
            rate.add(name, result["mb_per_s"])
            cost.add(name, result["cpu_us_per_mib"])

        alternate(rounds, {"off": lambda: run("off"), "ours": lambda: run("on")}, record)  # noqa: B023
        figures += [rate, cost]
    return figures


def random(rounds, seconds, paths, memory, note):
    """CPU of the server per range of 4 KiB at a random place."""
    cost = Figure(f"random ranges of 4 KiB, {CONNS_RANDOM} connections, on against off: CPU", "us/request", "lower",
                  1.02, note)
    rate = Figure(f"random ranges of 4 KiB, {CONNS_RANDOM} connections, on against off", "requests/s", "higher", None,
                  note)

    def run(prefetch):
        with node(prefetch, memory) as running:
            if memory == LARGE:
                for _ in range(2):
                    warm(running.port, paths)
            return load(running.port, running.pids, *listed(paths), "--range", 4 * KIB, "--conns", CONNS_RANDOM,
                        seconds=seconds)

    def record(name, result):
        if not result["requests_per_cpu_s"]:
            raise Unmeasured(f"{cost.name}: {name} used no CPU")
        cost.add(name, 1e6 / result["requests_per_cpu_s"])
        rate.add(name, result["requests_per_s"])

    alternate(rounds, {"off": lambda: run("off"), "ours": lambda: run("on")}, record)
    return [cost, rate]


def listed(paths):
    """The paths as arguments of the load generator."""
    listing = WORK / "paths-ahead"
    listing.write_text("\n".join(paths))
    return ["--paths-file", listing]
