"""Sections over HTTP: GETs against nginx and Varnish, PUTs against the bare-metal probe, columns, an idle node."""

import contextlib
import os
import socket
import time

from .figure import Figure, Limit, alternate
from .machine import LOAD_CORE, SERVER_CORE, WORK, Unmeasured, cpu_seconds, load, rss_bytes
from .servers import ours, peer, put_probe, store, warm

CONNS, CONNS_LARGE = 64, 16
KIB, MIB = 1 << 10, 1 << 20


def publish(port, size, count):
    """The same `count` objects of `size` bytes as files for the peers and as blobs of ours; paths of both."""
    files = WORK / "files"
    files.mkdir(parents=True, exist_ok=True)
    ours_paths, peer_paths = [], []
    for at in range(count):
        body = os.urandom(size)
        (files / f"{size}-{at}").write_bytes(body)
        peer_paths.append(f"/{size}-{at}")
        ours_paths.append(store(port, body))
    return ours_paths, peer_paths


def get(server, paths, size, seconds, conns=CONNS):
    """One run of GETs; large bodies are dropped in the client's kernel, which then never is the limit."""
    listing = WORK / f"paths-{server.name}"
    listing.write_text("\n".join(paths))
    extra = ["--discard"] if size >= MIB else []
    return load(server.port, server.pids, "--paths-file", listing, "--conns", conns, "--verify-size", size, *extra,
                seconds=seconds)


def get_small(rounds, seconds):
    """13 B, 4 KiB and 64 KiB from RAM: requests per CPU-second of the server."""
    figures = []
    with ours() as node, peer("static") as nginx:
        for size, label, reach in [(13, "13 B", 1.1), (4 * KIB, "4 KiB", 1.1), (64 * KIB, "64 KiB", 1.0)]:
            mine, theirs = publish(node.port, size, 16)
            warm(node.port, mine)
            warm(nginx.port, theirs)
            per_cpu = Figure(f"GET {label}, {CONNS} connections", "requests/CPU-s", "higher", reach)
            rate = Figure(f"GET {label}, {CONNS} connections: rate", "requests/s", "higher")
            late = Figure(f"GET {label}, {CONNS} connections: p99", "us", "lower")

            def record(name, run, per_cpu=per_cpu, rate=rate, late=late):
                per_cpu.add(name, run["requests_per_cpu_s"])
                rate.add(name, run["requests_per_s"])
                late.add(name, run["latency_us"]["p99"])

            alternate(rounds, {
                "nginx": lambda size=size, theirs=theirs: get(nginx, theirs, size, seconds),
                "ours": lambda size=size, mine=mine: get(node, mine, size, seconds)}, record)
            figures += [per_cpu, rate, late]
    return figures


def get_large(rounds, seconds):
    """1, 4 and 64 MiB hot, bodies dropped by the client's kernel: CPU of the server per MiB."""
    figures = []
    with contextlib.ExitStack() as stack:
        node, nginx = stack.enter_context(ours()), stack.enter_context(peer("static"))
        stack.enter_context(peer("origin"))
        varnish = stack.enter_context(peer("varnish"))
        for mib, count in [(1, 64), (4, 32), (64, 4)]:
            size = mib * MIB
            mine, theirs = publish(node.port, size, count)
            for port, paths in [(node.port, mine), (nginx.port, theirs), (varnish.port, theirs)]:
                warm(port, paths)
            both = Figure(f"GET {mib} MiB, {CONNS_LARGE} connections: CPU, process + softirq", "us/MiB", "lower", 1.0)
            own = Figure(f"GET {mib} MiB, {CONNS_LARGE} connections: CPU, process", "us/MiB", "lower", None,
                         "holds the softirq that ran in its context")
            rate = Figure(f"GET {mib} MiB, {CONNS_LARGE} connections: rate", "MB/s", "higher")

            def record(name, run, both=both, own=own, rate=rate):
                both.add(name, run["cpu_us_per_mib"])
                own.add(name, run["process_cpu_us_per_mib"])
                rate.add(name, run["mb_per_s"])

            alternate(rounds, {
                "nginx": lambda size=size, theirs=theirs: get(nginx, theirs, size, seconds, CONNS_LARGE),
                "varnish": lambda size=size, theirs=theirs: get(varnish, theirs, size, seconds, CONNS_LARGE),
                "ours": lambda size=size, mine=mine: get(node, mine, size, seconds, CONNS_LARGE)}, record)
            figures += [both, own, rate]
    return figures


def put(rounds, seconds):
    """Durable PUTs: 201 after fdatasync, in ours and in the probe alike."""
    figures = []
    durable = "durable: 201 after fdatasync"
    for size, conns, label, key, unit, reach in [
            (1 << 30, 1, "1 GiB, one stream", "mb_per_s", "MB/s", 0.9),
            (4 * KIB, 64, "4 KiB, 64 connections", "requests_per_s", "requests/s", 0.8),
            (64 * KIB, 64, "64 KiB, 64 connections", "requests_per_s", "requests/s", 0.8)]:
        figure = Figure(f"PUT {label}", unit, "higher", reach, durable)
        cost = Figure(f"PUT {label}: CPU, process", "us/MiB", "lower")

        def run(server, size=size, conns=conns):
            shape = ["--put-size", size, "--conns", conns]
            if conns == 1:
                return load(server.port, server.pids, *shape, "--requests", 2, seconds=120, warmup=0)
            return load(server.port, server.pids, *shape, seconds=seconds)

        def fresh(server):
            # Each run starts empty: how full the last one left the disk must not matter.
            with server() as running:
                return run(running)  # noqa: B023, called before the loop goes on

        def record(name, result, figure=figure, key=key, cost=cost):
            figure.add(name, result[key])
            cost.add(name, result["process_cpu_us_per_mib"])

        alternate(rounds, {"probe": lambda: fresh(put_probe), "ours": lambda: fresh(ours)}, record)
        figures += [figure, cost]
    return figures


def columns(rounds, seconds):
    """The same GETs of 4 KiB from one column and from two; of two, half the requests belong to the other."""
    figure = Figure("GET 4 KiB, two columns against one", "requests/CPU-s", "higher", 0.9)

    def run(cpuset):
        with ours(cpuset) as node:
            # Digests are uniform: of 64 blobs about half belong to either column.
            mine = [store(node.port, os.urandom(4 * KIB)) for _ in range(64)]
            warm(node.port, mine)
            return get(node, mine, 4 * KIB, seconds)

    both = f"{SERVER_CORE},{LOAD_CORE}"
    alternate(rounds, {"one column": lambda: run(str(SERVER_CORE)), "ours": lambda: run(both)},
              lambda name, result: figure.add(name, result["requests_per_cpu_s"]))
    return [figure]


def idle(rounds, seconds):
    """A node that nobody asks anything: CPU, memory beyond the arena, memory of an idle connection."""
    cpu = Limit("CPU of an idle node", "% of a core", "lower", 1.0)
    memory = Limit("RSS of an idle node (what of the arena is resident included)", "MiB", "lower", 128)
    connection = Limit("an idle connection", "KiB", "lower", 16)
    count = 2000
    for _ in range(rounds):
        with ours() as node:
            pid = node.pids[0]
            time.sleep(2)
            before = cpu_seconds(pid)
            time.sleep(max(seconds, 5))
            # 10 ms is the clock's grain; a node that used less is shown as that.
            cpu.add("ours", max(cpu_seconds(pid) - before, 0.01) / max(seconds, 5) * 100)
            memory.add("ours", rss_bytes(pid) / MIB)
            sockets = open_connections(node.port, 100)
            base = rss_bytes(pid)
            sockets += open_connections(node.port, count)
            connection.add("ours", max(rss_bytes(pid) - base, 1) / count / KIB)
            for one in sockets:
                one.close()
    return [cpu, memory, connection]


def open_connections(port, count):
    """Connections that asked once, were answered, and are idle since."""
    sockets = []
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port), 10)
        one.sendall(b"GET /blobs?limit=1 HTTP/1.1\r\nHost: bench\r\n\r\n")
        if not one.recv(4096).startswith(b"HTTP/1.1 200"):
            raise Unmeasured("an idle connection was not answered with 200")
        sockets.append(one)
    return sockets
