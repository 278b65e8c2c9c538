"""The machine, processes pinned to a core, and the programs of benches/src/bin.

Core numbers are the design's: the server has core 0, the load core 1 (BASALT_SERVER_CORE, BASALT_LOAD_CORE).
BASALT_BENCH_PROFILE=debug takes the programs of a debug build; figures are of release builds. BASALT_BIN is the path of
another basalt, such as one that is installed.
Whatever cannot be measured raises Unmeasured; benches/run prints it and ends with 1.
"""

import json
import os
import pathlib
import platform
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = pathlib.Path(os.environ.get("BASALT_BENCH_DIR", "/tmp/basalt-bench"))
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / os.environ.get("BASALT_BENCH_PROFILE", "release")
SERVER_CORE = int(os.environ.get("BASALT_SERVER_CORE", "0"))
LOAD_CORE = int(os.environ.get("BASALT_LOAD_CORE", "1"))


class Unmeasured(Exception):
    """A figure that could not be taken, and why."""


def pinned(core, *command):
    """The command line that runs `command` on `core`."""
    return ["taskset", "-c", str(core), *map(str, command)]


def program(name):
    """The path of a built program."""
    path = TARGET / name
    if name == "basalt":
        path = pathlib.Path(os.environ.get("BASALT_BIN", path))
    if not path.exists():
        raise Unmeasured(f"{path} is not built: cargo build --release --workspace")
    return path


def run(*command, timeout=300, cwd=None):
    """A command that ended well; any failure is Unmeasured with its last words."""
    shown = " ".join(map(str, command))
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout, cwd=cwd)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unmeasured(f"{shown}: {error}") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise Unmeasured(f"{shown}: exit {done.returncode}: {' / '.join(words)}")
    return done


def output(*command, **options):
    """What a command prints."""
    return run(*command, **options).stdout


def json_output(*command, **options):
    """The last line of what a command prints, as JSON."""
    text = output(*command, **options).strip()
    try:
        return json.loads(text if text.startswith("{\n") else text.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise Unmeasured(f"{' '.join(map(str, command))}: no JSON in {text[-200:]!r}") from error


def load(port, pids, *arguments, seconds, warmup=0.5):
    """Runs the load generator on its core against 127.0.0.1:port; wrong answers make the figure Unmeasured."""
    command = [program("load"), "--connect", f"127.0.0.1:{port}", "--server-core", SERVER_CORE,
               "--seconds", seconds, "--warmup", warmup]
    for pid in pids:
        command += ["--pid", pid]
    result = json_output(*pinned(LOAD_CORE, *command, *arguments), timeout=seconds + 120)
    if result["errors"]:
        raise Unmeasured(f"{result['errors']} wrong answers from port {port}: {result['first_error']}")
    return result


def wait_port(port, process, seconds=20):
    """Waits until 127.0.0.1:port accepts, or says what the process died of."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Unmeasured(f"{' '.join(process.args)}: exit {process.returncode} before listening on {port}")
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise Unmeasured(f"{process.args[0]}: nothing listens on {port} after {seconds} s")


def cpu_seconds(pid):
    """User and system time of a process and its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    """Resident memory of a process, huge pages of shared mappings included."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise Unmeasured(f"no Rss of process {pid}")


def describe():
    """What a reader must know to judge the figures."""
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "commit": commit.stdout.strip() or "none",
        "kernel": platform.release(),
        "congestion_control": pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "cpu": f"{os.cpu_count()} x {model}",
        "memory_gib": round(pages / 2**30, 1),
        "load_average": os.getloadavg()[0],
        "peers": output(ROOT / "benches/peers/peers", "versions").split("\n")[:-1],
    }
