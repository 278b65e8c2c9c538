"""Sections without a client: disk against fio, mesh against two bare threads, pool against allocate-and-zero."""

import json
import os

from .figure import Figure, Limit, alternate
from .machine import LOAD_CORE, ROOT, SERVER_CORE, TARGET, WORK, Unmeasured, json_output, output, pinned, program

DISK_FILE_BYTES = 2 << 30
POOL_SIZES = {1 << 20: ("1 MiB", 7600), 4 << 20: ("4 MiB", 24000), 16 << 20: ("16 MiB", 30000)}


def disk_file():
    """The file both read: written once, so that every block is there."""
    path = WORK / "disk.dat"
    WORK.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.stat().st_size != DISK_FILE_BYTES:
        with open(path, "wb") as file:
            block = os.urandom(16 << 20)
            for _ in range(DISK_FILE_BYTES // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    return path


def fio(path, bs, depth, seconds):
    """Random reads by fio with everything registered: IOPS, bytes/s, CPU in us per I/O."""
    report = json.loads(output(*pinned(
        SERVER_CORE, "fio", "--name=read", f"--filename={path}", "--rw=randread", "--direct=1", f"--bs={bs}",
        f"--iodepth={depth}", "--ioengine=io_uring", "--fixedbufs=1", "--registerfiles=1", "--iomem=mmap",
        "--time_based", f"--runtime={seconds}", "--thread=0", "--output-format=json"), timeout=seconds + 60))
    job = report["jobs"][0]
    read = job["read"]
    busy = (job["usr_cpu"] + job["sys_cpu"]) / 100 * read["runtime"] / 1e3
    return {"iops": read["iops"], "mb_per_s": read["bw_bytes"] / 1e6, "cpu_us_per_io": busy * 1e6 / read["total_ios"]}


def ours_disk(path, bs, depth, seconds):
    """The same by a column of the runtime."""
    run = json_output(program("basalt"), "bench", "disk", "--file", path, "--block-size", bs, "--depth", depth,
                      "--seconds", max(1, round(seconds)), "--cpuset", SERVER_CORE, "-o", "json", timeout=seconds + 60)
    return {"iops": run["ops_per_second"], "mb_per_s": run["mib_per_second"] * (1 << 20) / 1e6,
            "cpu_us_per_io": run["cpu_us_per_operation"]}


def ours_mesh(seconds):
    """Round trips and messages between two columns of the runtime."""
    def run(*more):
        return json_output(program("basalt"), "bench", "mesh", "--seconds", max(1, round(seconds / 2)), "--cpuset",
                           f"{SERVER_CORE},{LOAD_CORE}", "-o", "json", *more)
    spinning, asleep = run(), run("--asleep")
    return {"spinning_ns": {"p50": spinning["latency_us"]["p50"] * 1e3},
            "asleep_ns": {"p50": asleep["latency_us"]["p50"] * 1e3},
            "messages_per_s": spinning["messages_per_second"]}


def disk(rounds, seconds):
    """4 KiB at depth 32 and 128, 1 MiB at depth 32."""
    path = disk_file()
    figures = []
    for bs, depth, key, unit, reach in [(4096, 32, "iops", "IOPS", 0.90), (4096, 128, "iops", "IOPS", 0.95),
                                        (1 << 20, 32, "mb_per_s", "MB/s", 1.0)]:
        label = f"random reads of {bs >> 10} KiB, O_DIRECT, depth {depth}"
        rate = Figure(label, unit, "higher", reach)
        cost = Figure(f"{label}: CPU per I/O", "us", "lower", 1.25 if bs == 4096 else None)

        def record(name, result, rate=rate, cost=cost, key=key):
            rate.add(name, result[key])
            cost.add(name, result["cpu_us_per_io"])

        alternate(rounds, {"fio": lambda bs=bs, depth=depth: fio(path, bs, depth, seconds),
                           "ours": lambda bs=bs, depth=depth: ours_disk(path, bs, depth, seconds)}, record)
        figures += [rate, cost]
    return figures


def mesh(rounds, seconds):
    """Round trips and messages between two columns and between two bare threads."""
    spin = Figure("round trip, both polling", "ns", "lower", 1.5)
    sleep = Figure("round trip, asleep (eventfd)", "ns", "lower", 1.5)
    rate = Figure("messages one way", "1/s", "higher")
    floor = Limit("messages one way, ours", "1/s", "higher", 8e6)

    def record(name, result):
        spin.add(name, result["spinning_ns"]["p50"])
        sleep.add(name, result["asleep_ns"]["p50"])
        rate.add(name, result["messages_per_s"])
        if name == "ours":
            floor.add(name, result["messages_per_s"])

    cores = f"{SERVER_CORE},{LOAD_CORE}"
    alternate(rounds, {"probe": lambda: json_output(program("probe_spsc"), "--cores", cores, "--seconds", seconds / 2),
                       "ours": lambda: ours_mesh(seconds)}, record)
    return [spin, sleep, rate, floor]


def pool(rounds, seconds):
    """get + put of pooled buffers (criterion, benches/benches/pool.rs) against allocate-and-zero."""
    if not (ROOT / "benches/benches/pool.rs").exists():
        raise Unmeasured("benches/benches/pool.rs is not there")
    cost = {size: Limit(f"get + put, {label}", "ns", "lower", 40) for size, (label, _) in POOL_SIZES.items()}
    gain = {size: Limit(f"allocate-and-zero / get + put, {label}", "x", "higher", reach)
            for size, (label, reach) in POOL_SIZES.items()}
    for _ in range(rounds):
        fresh = json_output(program("probe_alloc"), "--core", SERVER_CORE, "--seconds", seconds / 4)
        output(*pinned(SERVER_CORE, "cargo", "bench", "-q", "-p", "benches", "--bench", "pool"), timeout=900, cwd=ROOT)
        for size in POOL_SIZES:
            path = TARGET.parent / f"criterion/{size >> 20}MiB/pool/new/estimates.json"
            if not path.exists():
                raise Unmeasured(f"{path}: the benchmark must be {size >> 20}MiB/pool")
            nanoseconds = json.loads(path.read_text())["median"]["point_estimate"]
            cost[size].add("ours", nanoseconds)
            gain[size].add("probe", fresh[str(size)])
            gain[size].add("ours", fresh[str(size)] / nanoseconds)
    return [*cost.values(), *gain.values()]
