"""The section `sequential`: one client that reads large bodies out of RAM and compares them word by word, ours and nginx."""

from .blobs import GIB, blobs
from .figure import Figure, Limit, alternate
from .machine import SERVER_CORE, WORK, Unmeasured, run
from .servers import OURS_OPS_PORT, ours, peer

SIZES = [(GIB, "1 GiB"), (4 * GIB, "4 GiB")]
MEMORY = "7GiB"
# From disk, and then into RAM: an extent is kept when it is asked for again.
WARM_READS = 3


def sequential(rounds, seconds):
    """Rate, and the server's CPU for each MiB."""
    figures = []
    with ours(extra=["--memory", MEMORY]) as node, peer("static") as nginx:
        for number, (size, label) in enumerate(SIZES):
            name = f"sequential-{size}"
            file = WORK / "files" / name
            blobs("make", "--file", file, "--number", number, "--size-max", size)
            digest = run("curl", "-sf", "-T", file, f"http://127.0.0.1:{node.port}/blobs", timeout=600).stdout
            path = "/blobs/" + next(w for w in digest.split('"') if w.startswith("sha256:"))
            rate = Limit(f"GET {label} by one client that compares", "MB/s", "higher", 2000, "warm, two cores")
            cost = Figure(f"GET {label}: CPU, process + softirq", "us/MiB", "lower")
            own = Figure(f"GET {label}: CPU, process", "us/MiB", "lower")
            client = Figure(f"GET {label}: CPU of the client", "us/MiB", "lower")

            def get(server, path, seconds, number=number, size=size):
                return blobs("stream", "--connect", f"127.0.0.1:{server.port}", "--path", path, "--number", number,
                             "--size-max", size, "--seconds", seconds, "--server-core", SERVER_CORE,
                             *(a for pid in server.pids for a in ("--pid", pid)))

            def record(name, result, rate=rate, cost=cost, own=own, client=client):
                rate.add(name, result["mb_per_s"])
                cost.add(name, result["both_us_per_mib"])
                own.add(name, result["process_us_per_mib"])
                client.add(name, result["client_us_per_mib"])

            contenders = {"nginx": (nginx, f"/{name}"), "ours": (node, path)}
            for server, at in contenders.values():
                for _ in range(WARM_READS):
                    get(server, at, 0)
            cold = disk_reads()
            alternate(rounds, {n: lambda s=server, at=at, get=get: get(s, at, seconds)
                               for n, (server, at) in contenders.items()}, record)
            if disk_reads() != cold:
                raise Unmeasured(f"GET {label}: {disk_reads() - cold} reads of ours went to disk: it was not warm")
            file.unlink()
            figures += [rate, cost, own, client]
    return figures


def disk_reads():
    """Reads of ours that RAM had no answer for."""
    text = run("curl", "-sf", f"http://127.0.0.1:{OURS_OPS_PORT}/metrics").stdout
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("blobcache_l1_hits_total ")))
