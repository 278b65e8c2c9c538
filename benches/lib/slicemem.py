"""The section `slice-memory`: what an answer takes of a cache while its client is slow, and what many large ones take in all."""

import pathlib
import socket
import threading
import time

from .blobs import KIB, MIB
from .figure import Limit, alternate
from .machine import Unmeasured, rss_bytes
from .slices import caches, files, fresh_names, get_cold, heat

SLOW_CLIENTS, COLD_CLIENTS = 400, 20
RECEIVE_BYTES = 64 * KIB
SETTLE_S = 1.0
# Slow: a client takes as much every 20 ms.
SIP_BYTES, SIP_S = 64 * KIB, 0.02
COLD_S = 3.0
# Four slices come while one is sent.
COLD_REACH_KIB = 5 * 2 * KIB
SMALL_MEMORY = "256MiB"


def memory(rounds, seconds):
    """Hot, cold, and twenty clients in 256 MiB."""
    del seconds
    size = 100 * MIB
    hot = Limit(f"memory of a hot answer, {SLOW_CLIENTS} slow clients of 100 MiB", "KiB", "lower", 16, "beside socket buffers")
    filling = Limit(f"memory of a cold answer, {COLD_CLIENTS} slow clients of 100 MiB each", "KiB", "lower", COLD_REACH_KIB)
    with caches() as at:
        paths = files(size, 4)
        heat(at, paths)
        alternate(rounds, {name: lambda s=server: stalled(s, paths) for name, server in at.items()}, hot.add)
        alternate(rounds, {name: lambda s=server: sipped(s, paths) for name, server in at.items()}, filling.add)
    peak = Limit(f"20 clients, 100 MiB each, cold, --memory {SMALL_MEMORY}: most memory", "MiB", "lower", 256)
    for _ in range(rounds):
        with caches(2 * MIB, memory=SMALL_MEMORY, names=("ours",)) as at:
            get_cold(at["ours"], (files(size, 4) * 5)[:20], "--once", "--conns", 20, "--verify-size", size)
            peak.add("ours", most_bytes(at["ours"].pids[0]) / MIB)
    return [hot, filling, peak]


def all_rss(server):
    """Resident memory of a server's processes."""
    total = 0
    for pid in server.pids:
        total += rss_bytes(pid)
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            total += sum(rss_bytes(child) for child in (task / "children").read_text().split())
    return total


def most_bytes(pid):
    """The most that was resident of a process."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KIB
    raise Unmeasured(f"no VmHWM of process {pid}")


def asking(port, path):
    """A client that has the first bytes of its answer, and takes few at a time."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    one.settimeout(60)
    one.connect(("127.0.0.1", port))
    one.sendall(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
    return one


def awaited(clients):
    """All of them have begun to receive."""
    for one in clients:
        if not one.recv(4096).startswith(b"HTTP/1.1 200"):
            raise Unmeasured("a slow client was not answered with 200")


def stalled(server, paths):
    """KiB for each of many answers that are hot and do not get on."""
    base = all_rss(server)
    clients = [asking(server.port, paths[at % len(paths)]) for at in range(SLOW_CLIENTS)]
    awaited(clients)
    time.sleep(SETTLE_S)
    grown = all_rss(server) - base
    for one in clients:
        one.close()
    time.sleep(SETTLE_S)
    return max(grown, KIB) / SLOW_CLIENTS / KIB


def sipped(server, paths):
    """KiB, at most, for each of a few answers that are cold and get on slowly."""
    names = fresh_names((paths * COLD_CLIENTS)[:COLD_CLIENTS])
    base = most = all_rss(server)
    clients = [asking(server.port, path) for path in names]
    awaited(clients)
    is_over = threading.Event()
    sips = threading.Thread(target=sip, args=(clients, is_over))
    sips.start()
    end = time.monotonic() + COLD_S
    while time.monotonic() < end:
        most = max(most, all_rss(server))
        time.sleep(SIP_S)
    is_over.set()
    sips.join()
    for one in clients:
        one.close()
    time.sleep(SETTLE_S)
    return max(most - base, KIB) / COLD_CLIENTS / KIB


def sip(clients, is_over):
    """Takes a little for every client, again and again."""
    while not is_over.wait(SIP_S):
        for one in clients:
            one.recv(SIP_BYTES)
