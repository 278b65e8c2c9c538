"""The section `mount`: blobs as files, beside the native files on the same disk and beside `fuser`.

Node and peer may run on both cores, for FUSE over io_uring serves a request on the core it came from; the client has the
load's core. Natives are copies of the same bytes on the file system that has the node's data. Root is needed, and
/sys/module/fuse/parameters/enable_uring must be Y.
"""

import contextlib
import os
import shutil

from .blobs import GIB, KIB, MIB, blobs, fill
from .figure import Figure, Limit, alternate
from .machine import SERVER_CORE, WORK, Unmeasured
from .mounts import Mounted, device_bytes, drop_inodes, evict, fio, fuser, node, switched_on

# A blob that ends inside an extent would not be in RAM to its end.
EXTENT_BYTES = 4 * MIB
LARGE_NUMBER, HUGE_NUMBER, SMALL_COUNT, SMALL_BYTES = 1, 2, 10_000, 4 * KIB
FILES = WORK / "files-mount"
BYTES, FROM_DISK = "blobcache_fuse_read_bytes_total", 'level="disk"'
WARM_READS_MAX = 8
# Of the bytes of a run that is to be of RAM only: the first read of a blob may go to disk before reading ahead begins.
FROM_DISK_PART_MAX = 0.03


def mount(rounds, seconds, scale=1.0):
    """All of the table; `scale` is of the sizes."""
    switched_on()
    shutil.rmtree(FILES, ignore_errors=True)
    (FILES / "large").mkdir(parents=True)
    (FILES / "small").mkdir()
    large = round(GIB * scale) // EXTENT_BYTES * EXTENT_BYTES
    try:
        return [*large_files(rounds, seconds, large), *small_files(rounds, seconds, max(100, round(SMALL_COUNT * scale))),
                *from_ram(rounds, large), *random(rounds, seconds, large), *requests(large)]
    finally:
        shutil.rmtree(FILES, ignore_errors=True)


def made(number, size, directory=FILES / "large"):
    """A file of known bytes on the disk."""
    file = directory / f"{number}-{size}"
    if not file.exists():
        blobs("make", "--file", file, "--number", number, "--size-max", size)
    return file


def figures(what, unit, key, reach_native=None, reach_fuser=None):
    """Figures of ours against native and fuser, of the CPU, and what records a round into them."""
    pairs = {"native": Figure(f"{what}, against native", unit, "higher", reach_native),
             "fuser": Figure(f"{what}, against fuser", unit, "higher", reach_fuser)}
    cost_key, cost_unit = ("cpu_us_per_mib", "us/MiB") if unit == "MB/s" else ("cpu_us_per_op", "us/op")
    cost = Figure(f"{what}: CPU, client + server", cost_unit, "lower")

    def record(name, seen):
        for other, figure in pairs.items():
            if name in (other, "ours"):
                figure.add(name, seen[key])
        cost.add(name, seen[cost_key])

    def taken():
        return [f for f in pairs.values() if len(f.rounds) > 1] + [cost]

    return record, taken


def large_files(rounds, seconds, large):
    """Reads and mappings of large blobs through passthrough."""
    file, huge = made(LARGE_NUMBER, large), made(HUGE_NUMBER, 4 * large)
    with node("large") as (at,):
        mine = at.directory / at.put(file)
        contenders = {"native": (Mounted(file.parent), file), "ours": (at, mine)}
        before = at.metric(BYTES)
        out = []
        for what, verb, unit, key, reach, arguments, is_cold in [
                ("cold sequential read", "read", "MB/s", "mb_per_s", 0.9, ["--passes", 1], True),
                ("warm sequential read", "read", "MB/s", "mb_per_s", 0.95, ["--seconds", seconds], False),
                ("mmap, random 4 KiB touches", "map", "touches/s", "ops_per_s", 0.9, ["--seconds", seconds], False)]:
            record, taken = figures(f"{what} of {large // MIB:,} MiB, passthrough", unit, key, reach)
            # What is read for the first time after it was written is slower; what is to be warm has to be read, too.
            for measure in readers(contenders, LARGE_NUMBER, is_cold, "read", "--passes", 1).values():
                measure()
            alternate(rounds, readers(contenders, LARGE_NUMBER, is_cold, verb, *arguments), record)
            out += taken()
        out.append(compared(rounds, contenders, LARGE_NUMBER))
        mine = at.directory / at.put(huge)
        out.append(compared(rounds, {"native": (Mounted(huge.parent), huge), "ours": (at, mine)}, HUGE_NUMBER))
        if at.metric(BYTES) != before:
            raise Unmeasured("large blobs: the daemon was asked for bytes: it was no passthrough")
    huge.unlink()
    return out


def readers(contenders, number, is_cold, verb, *arguments):
    """What measures each of the contenders; cold: nothing of their files is in the page cache."""
    def one(where, path):
        if not is_cold:
            return where.read(verb, "--file", path, "--number", number, *arguments)
        evict(WORK / "mount-large", FILES)
        before = device_bytes()
        seen = where.read(verb, "--file", path, "--number", number, *arguments)
        if device_bytes() - before < seen["bytes"]:
            raise Unmeasured(f"cold read of {path}: not all came from the disk")
        return seen

    return {name: lambda w=where, p=path: one(w, p) for name, (where, path) in contenders.items()}


def compared(rounds, contenders, number):
    """Warm reads of which every word is compared."""
    size = contenders["native"][1].stat().st_size
    rate = Limit(f"read of {size // MIB:,} MiB, every word compared, passthrough", "MB/s", "higher", 2000, "warm")
    for measure in readers(contenders, number, False, "read", "--passes", 1).values():
        measure()
    alternate(rounds, readers(contenders, number, False, "read", "--compare", "--passes", 1),
              lambda name, seen: rate.add(name, seen["mb_per_s"]))
    return rate


def small_node(stack, count):
    """A node with small blobs, its two mounts, the listing, and the same files for natives and peers."""
    plain, immutable = stack.enter_context(node("small", mounts=("mount", "mount-ro")))
    listing = WORK / "mount-listing"
    listing.unlink(missing_ok=True)
    fill(plain.port, listing, 0, (SMALL_BYTES, SMALL_BYTES), "--count", count)
    for line in listing.read_text().splitlines():
        name = line.split(":")[1]
        shutil.copyfile(immutable.directory / name, FILES / "small" / name)
    return plain, immutable, listing


def small_files(rounds, seconds, count):
    """Opening, reading and closing small blobs, and stat."""
    out = []
    with contextlib.ExitStack() as stack:
        plain, immutable, listing = small_node(stack, count)
        peer = stack.enter_context(fuser(FILES / "small"))
        contenders = {"native": Mounted(FILES / "small"), "fuser": peer}
        for verb, how, mine, reach_native, reach_fuser in [
                ("open", "warm", {"--mount-ro": immutable}, 0.9, None), ("open", "warm", {"--mount": plain}, None, 1.5),
                ("open", "cold", {"--mount-ro": immutable}, None, 1.5), ("open", "cold", {"--mount": plain}, None, 1.5),
                ("stat", "warm", {"--mount-ro": immutable}, 0.8, None), ("stat", "warm", {"--mount": plain}, 0.8, None)]:
            (option, at), = mine.items()
            what = "open + read + close" if verb == "open" else "stat"
            record, taken = figures(f"{what} of {count:,} x 4 KiB, {how}, {option}", "files/s", "ops_per_s",
                                    reach_native, reach_fuser)

            def one(where, verb=verb, how=how):
                if how == "cold":
                    drop_inodes()
                shape = ["--passes", 1] if how == "cold" else ["--seconds", seconds]
                return where.read(verb, "--dir", where.directory, "--listing", listing, *shape)

            everyone = {**contenders, "ours": at}
            if how == "warm":
                for where in everyone.values():
                    where.read(verb, "--dir", where.directory, "--listing", listing, "--passes", 2)
            alternate(rounds, {n: lambda w=w, one=one: one(w) for n, w in everyone.items()}, record)
            out += taken()
    return out


def from_disk(at, measure):
    """What a measurement saw, and which part of the bytes came from the node's disk."""
    before = at.metric(BYTES), at.metric(BYTES, FROM_DISK)
    seen = measure()
    return seen, (at.metric(BYTES, FROM_DISK) - before[1]) / max(at.metric(BYTES) - before[0], 1)


def in_ram(at, name):
    """Reads a blob until RAM has it: an extent is kept when it is asked for again."""
    for _ in range(WARM_READS_MAX):
        path = at.directory / name
        _, part = from_disk(at, lambda path=path: at.read("read", "--file", path, "--number", LARGE_NUMBER, "--passes", 1,
                                                          "--evict"))
        if part <= FROM_DISK_PART_MAX:
            return
    raise Unmeasured(f"after {WARM_READS_MAX} reads a blob is not in RAM: {part:.0%} came from disk")


def ram_only(at, measure, what):
    """A measurement of what RAM has."""
    seen, part = from_disk(at, measure)
    if part > FROM_DISK_PART_MAX:
        raise Unmeasured(f"{what}: {part:.0%} came from disk: it was not warm")
    return seen


def from_ram(rounds, large):
    """Cold sequential reads of what only the servers' RAM has, by the classic device."""
    file = made(LARGE_NUMBER, large)
    what = f"cold sequential read of {large // MIB:,} MiB, from the server's RAM, clone"
    record, taken = figures(what, "MB/s", "mb_per_s", None, 1.1)
    shape = ["--number", LARGE_NUMBER, "--passes", 2, "--evict"]
    core = str(SERVER_CORE)
    with node("clone", "--fuse-rung", "clone", cpuset=core, memory="4GiB") as (at,), fuser(file.parent, cpuset=core) as peer:
        name = at.put(file)
        in_ram(at, name)
        # The first pass over the peer's memory is slower, too.
        peer.read("read", "--file", peer.directory / file.name, *shape)
        alternate(rounds, {
            "fuser": lambda: peer.read("read", "--file", peer.directory / file.name, *shape),
            "ours": lambda: ram_only(at, lambda: at.read("read", "--file", at.directory / name, *shape), what)}, record)
    return taken()


def random(rounds, seconds, large):
    """Random direct reads by fio, of what the servers' RAM has."""
    file = made(LARGE_NUMBER, large)
    what = "random direct reads of 4 KiB, 2 jobs of depth 32"
    against_fuser = Figure(f"{what}, uring, against fuser", "IOPS", "higher", 2.0)
    against_clone = Figure(f"{what}, uring, against our clone rung", "IOPS", "higher", 1.4)
    switches = Limit(f"{what}: context switches of server and client", "per read", "lower", 2)
    cost = Figure(f"{what}: CPU, client + server", "us/op", "lower")

    def record(name, seen):
        if name in ("fuser", "ours"):
            against_fuser.add(name, seen["iops"])
        if name in ("clone", "ours"):
            against_clone.add(name, seen["iops"])
        switches.add(name, seen["switches"])
        cost.add(name, seen["cpu_us"])

    with contextlib.ExitStack() as stack:
        (clone,) = stack.enter_context(node("clone", "--fuse-rung", "clone", memory="4GiB"))
        (uring,) = stack.enter_context(node("uring", "--fuse-rung", "uring", memory="4GiB", number=1))
        peer = stack.enter_context(fuser(file.parent))
        peer.file = peer.directory / file.name
        for at in (clone, uring):
            name = at.put(file)
            in_ram(at, name)
            at.file = at.directory / name
        alternate(rounds, {
            "fuser": lambda: fio(peer, seconds),
            "clone": lambda: ram_only(clone, lambda: fio(clone, seconds), what),
            "ours": lambda: ram_only(uring, lambda: fio(uring, seconds), what)}, record)
    return [against_fuser, against_clone, switches, cost]


def requests(large):
    """Requests of the kernel, FORGETs apart: counted, so one run says all."""
    file = made(LARGE_NUMBER, large)
    count = max(100, len(os.listdir(FILES / "small")))
    note = "fuser by its defaults; FORGETs apart"
    per_file = {o: {how: Figure(f"requests per open + read + close, {how}, {o}", "requests", "lower", 0.5, note)
                    for how in ("cold", "warm")} for o in ("--mount-ro", "--mount")}
    per_mib = Figure("requests per MiB read, cold, --mount-ro", "requests", "lower", 0.5, note)
    with contextlib.ExitStack() as stack:
        plain, immutable, listing = small_node(stack, count)
        with fuser(FILES / "small", "default") as peer:
            for option, at in [("--mount-ro", immutable), ("--mount", plain)]:
                for how, figure in per_file[option].items():
                    for name, where in [("fuser", peer), ("ours", at)]:
                        if how == "cold":
                            drop_inodes()
                        seen = counted(where, "open", "--dir", where.directory, "--listing", listing, "--passes", 1)
                        figure.add(name, max(seen, 1) / count)
        name = plain.put(file)
        with fuser(file.parent, "default") as peer:
            for who, where, path in [("fuser", peer, peer.directory / file.name),
                                     ("ours", immutable, immutable.directory / name)]:
                seen = counted(where, "read", "--file", path, "--number", LARGE_NUMBER, "--passes", 1, "--evict")
                per_mib.add(who, max(seen, 1) / (large / MIB))
    return [figure for both in per_file.values() for figure in both.values()] + [per_mib]


def counted(where, *arguments):
    """Requests that a run of `files` led to."""
    # The way to the directory is not the file's.
    where.directory.is_dir()
    before = where.count()
    where.read(*arguments)
    return where.count() - before
