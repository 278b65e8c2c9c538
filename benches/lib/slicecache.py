"""The sections `slice`, `slice-cold` and `slice-scenarios`: our caching proxy beside nginx (`slice`, `proxy_cache`) and Varnish.

Hot is from RAM (ours, Varnish) or the page cache (nginx); cold is what no cache has seen, from an origin that shares the
load's core.
"""

from .blobs import KIB, MIB
from .figure import Figure, Limit, alternate
from .slices import Pair, caches, fetched, files, fresh_names, get, get_cold, heat, mb_per_cpu_s

CONNS = 100
RANGE_BYTES = 64 * KIB


def hot(rounds, seconds):
    """What all caches have: small objects, large ones, ranges of large ones."""
    with caches() as at:
        out = small(at, rounds, seconds)
        # Shared fairly, a hundred answers of 100 MiB are 10 GiB before the first is whole.
        for mib, count, least_s in [(1, 64, 0), (10, 16, 2), (100, 4, 8)]:
            out += large(at, rounds, max(seconds, least_s), mib, count)
        return out + ranges(at, rounds, seconds)


def small(at, rounds, seconds):
    """1 KiB."""
    paths = files(KIB, 16)
    heat(at, paths)
    what = f"hot GET 1 KiB, {CONNS} connections"
    return requests(at, rounds, seconds, what, 1.2, paths, "--verify-size", KIB)


def large(at, rounds, seconds, mib, count):
    """Whole objects, bodies dropped in the client's kernel."""
    paths = files(mib * MIB, count)
    heat(at, paths)
    what = f"hot GET {mib} MiB, {CONNS} connections"
    both = Pair(f"{what}: CPU, process + softirq", "us/MiB", "lower", nginx=1.0, varnish=1.1)
    own = Pair(f"{what}: CPU, process", "us/MiB", "lower", note="holds the softirq that ran in its context")
    first = Figure(f"{what}: p99 to the first byte", "us", "lower", 1.0)
    rate = Figure(f"{what}: rate", "MB/s", "higher")

    def record(name, seen):
        both.add(name, seen["cpu_us_per_mib"])
        own.add(name, seen["process_cpu_us_per_mib"])
        first.add(name, seen["ttfb_us"]["p99"])
        rate.add(name, seen["mb_per_s"])

    shape = ["--conns", CONNS, "--verify-size", mib * MIB, "--discard"]
    alternate(rounds, {name: lambda s=server: get(s, paths, *shape, seconds=seconds) for name, server in at.items()}, record)
    return [*both.all(), *own.all(), first, rate]


def ranges(at, rounds, seconds):
    """64 KiB anywhere in objects of 100 MiB, which are hot already."""
    paths = files(100 * MIB, 4)
    what = f"hot GET of 64 KiB anywhere in 100 MiB, {CONNS} connections"
    return requests(at, rounds, seconds, what, 1.5, paths, "--range", RANGE_BYTES)


def requests(at, rounds, seconds, what, nginx, paths, *shape):
    """Many small answers: how many for a second of CPU, against `nginx` times nginx's, and how late."""
    per_cpu = Pair(what, "requests/CPU-s", "higher", nginx=nginx)
    late = Figure(f"{what}: p99", "us", "lower")

    def record(name, seen):
        per_cpu.add(name, seen["requests_per_cpu_s"])
        late.add(name, seen["latency_us"]["p99"])

    shape = ["--conns", CONNS, *shape]
    alternate(rounds, {name: lambda s=server: get(s, paths, *shape, seconds=seconds) for name, server in at.items()}, record)
    return [*per_cpu.all(), late]


def cold(rounds, seconds):
    """What no cache has: one client, and many that ask for the same."""
    del seconds
    with caches() as at:
        return [*alone(at, rounds), *together(at, rounds, 1000, 10 * MIB, None),
                *together(at, rounds, 100, 100 * MIB, 5_000_000)]


def alone(at, rounds):
    """One client, four objects of 100 MiB one after the other."""
    paths = files(100 * MIB, 4)
    what = "cold GET 100 MiB, one client"
    rate = Pair(what, "MB/s", "higher", nginx=1.5)
    first = Pair(f"{what}: to the first byte, p50", "us", "lower", nginx=1.0)
    cost = Pair(f"{what}: CPU, process", "us/MiB", "lower")

    def record(name, seen):
        rate.add(name, seen["mb_per_s"])
        first.add(name, seen["ttfb_us"]["p50"])
        cost.add(name, seen["process_cpu_us_per_mib"])

    shape = ["--conns", 1, "--requests", len(paths), "--verify-size", 100 * MIB]
    alternate(rounds, {name: lambda s=server: get_cold(s, paths, *shape)[0] for name, server in at.items()}, record)
    return [*rate.all(), *first.all(), *cost.all()]


def together(at, rounds, clients, size, begin):
    """All clients are connected, then ask for one object, or for one range of it, that is not there."""
    paths = files(size, 1)
    part = f"64 KiB of {size // MIB} MiB" if begin else f"{size // MIB} MiB"
    what = f"{clients:,} clients on one cold object, {part}"
    first = Pair(f"{what}: p99 to the first byte", "us", "lower", nginx=0.2)
    took = Figure(f"{what}: until the last has it", "ms", "lower")
    asked = Figure(f"{what}: requests at the origin", "requests", "lower")
    moved = Limit(f"{what}: bytes from the origin, once", "MiB", "lower")
    most = Limit(f"{what}: requests at the origin for a byte, at most", "requests", "lower", 1)

    def one(server):
        shape = ["--range", RANGE_BYTES, "--from", begin] if begin else ["--verify-size", size]
        seen, names = get_cold(server, paths, "--once", "--conns", clients, *shape)
        return seen, *fetched(names)

    def record(name, result):
        seen, spans, total = result
        first.add(name, seen["ttfb_us"]["p99"])
        took.add(name, seen["latency_us"]["max"] / 1e3)
        asked.add(name, len(spans))
        moved.add(name, total / MIB)
        most.add(name, deepest(spans, size))

    alternate(rounds, {name: lambda s=server: one(s) for name, server in at.items()}, record)
    return [*first.all(), took, asked, moved, most]


def deepest(spans, size):
    """How many of these ranges (`bytes=0-9`, `-` for all) hold the byte that most of them hold."""
    edges = []
    for span in spans:
        begin, _, last = span.removeprefix("bytes=").partition("-")
        edges += [(int(begin or 0), 1), (min(int(last or size), size - 1) + 1, -1)]
    depth = best = 0
    for _, step in sorted(edges):
        depth += step
        best = max(best, depth)
    return best


# Clients, sizes and slices of the reference project's four scenarios, and the hit ratios that it claims.
SCENARIOS = [
    ("100 clients, 1 MiB, slices of 256 KiB", 100, [(MIB, 64)], 256 * KIB, 0.78),
    ("50 clients, 10 MiB, slices of 1 MiB", 50, [(10 * MIB, 16)], MIB, 0.85),
    ("20 clients, 100 MiB, slices of 2 MiB", 20, [(100 * MIB, 4)], 2 * MIB, 0.92),
    ("100 clients, 40/40/20 % of 1/10/100 MiB, slices of 1 MiB", 100, [(MIB, 8), (10 * MIB, 8), (100 * MIB, 4)], MIB, 0.81),
]
# Requests of each object, on average, of which a hit ratio is taken.
ASKED_FOR = 16


def scenarios(rounds, seconds):
    """The four."""
    out = []
    for what, clients, sizes, slice_bytes, claimed in SCENARIOS:
        with caches(slice_bytes) as at:
            paths = [path for size, count in sizes for path in files(size, count)]
            out += [*first_time(at, rounds, what, clients, paths), ratio(at, what, clients, paths, claimed)]
            heat(at, paths)
            out += again(at, rounds, seconds, what, clients, paths)
    return out


def first_time(at, rounds, what, clients, paths):
    """Every client asks for an object of its own, all at once."""
    names = (paths * clients)[:clients]
    cost = Pair(f"{what}: cold", "MB/CPU-s", "higher", nginx=1.5)
    rate = Figure(f"{what}: cold, rate", "MB/s", "higher")

    def record(name, seen):
        cost.add(name, mb_per_cpu_s(seen))
        rate.add(name, seen["mb_per_s"])

    shape = ["--once", "--conns", clients]
    alternate(rounds, {name: lambda s=server: get_cold(s, names, *shape)[0] for name, server in at.items()}, record)
    return [*cost.all(), rate]


def again(at, rounds, seconds, what, clients, paths):
    """The clients ask for what is hot."""
    cost = Pair(f"{what}: hot", "MB/CPU-s", "higher", nginx=1.2, varnish=1.0)
    late = Figure(f"{what}: hot, p95", "us", "lower", 1.0)
    rate = Figure(f"{what}: hot, rate", "MB/s", "higher")

    def record(name, seen):
        cost.add(name, mb_per_cpu_s(seen))
        late.add(name, seen["latency_us"]["p95"])
        rate.add(name, seen["mb_per_s"])

    shape = ["--conns", clients, "--discard"]
    alternate(rounds, {name: lambda s=server: get(s, paths, *shape, seconds=seconds) for name, server in at.items()}, record)
    return [*cost.all(), late, rate]


def ratio(at, what, clients, paths, claimed):
    """Of a run that begins with an empty cache: the part of the bytes that did not come from the origin."""
    figure = Limit(f"{what}: hit ratio, each object asked for {ASKED_FOR} times", "of bytes", "higher", claimed)
    names = fresh_names(paths)
    shape = ["--in-order", "--discard", "--conns", clients, "--requests", ASKED_FOR * len(names)]
    seen = get(at["ours"], names * ASKED_FOR, *shape, seconds=120, warmup=0)
    figure.add("ours", 1 - fetched(names)[1] / seen["bytes"])
    return figure
