"""What the section `mount` measures: a node with its mounts, the peer `fuser`, and the program that reads files.

A contender is a `Mounted`: the directory that has the files, and the process that serves them (none for the native files).
CPU is that of the client and of the server together. Mounts that are left over are taken away when a block ends.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import time

from .machine import (LOAD_CORE, ROOT, SERVER_CORE, TARGET, WORK, Unmeasured, cpu_seconds, json_output, output, pinned,
                      program, run)
from .servers import OURS_OPS_PORT, OURS_PORT, Running, process

BOTH_CORES = f"{SERVER_CORE},{LOAD_CORE}"
PEER = ROOT / "benches/peers/fuser/Cargo.toml"
DIGESTS = "by-digest/sha256"
READ_AHEAD_KB = 1024
ENABLE_URING = pathlib.Path("/sys/module/fuse/parameters/enable_uring")
# What the kernel still sends after a drop of its caches, such as FORGETs, is not to be in the figure of what comes next.
SETTLE_S = 0.5


class Mounted:
    """A directory with files. `count` says how many requests of the kernel its server had so far."""

    def __init__(self, directory, pid=None, count=None):
        self.directory, self.pid, self.count = pathlib.Path(directory), pid, count

    def cpu_s(self):
        """What its server used so far."""
        return cpu_seconds(self.pid) if self.pid else 0.0

    def switches(self):
        """Context switches of all threads of its server so far, voluntary or not."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                total += sum(int(line.split()[1]) for line in (task / "status").read_text().splitlines()
                             if "ctxt_switches:" in line)
        return total

    def read(self, verb, *arguments, timeout=180):
        """One run of the program `files` on the load's core, with `cpu_us_per_op` and `cpu_us_per_mib` of all."""
        before = self.cpu_s()
        seen = json_output(*pinned(LOAD_CORE, program("files"), "--do", verb, *arguments), timeout=timeout)
        busy = (seen["cpu_seconds"] + self.cpu_s() - before) * 1e6
        seen["cpu_us_per_op"] = busy / seen["ops"]
        seen["cpu_us_per_mib"] = busy / max(seen["bytes"] / (1 << 20), 1e-9)
        return seen


class Node(Mounted):
    """One of our mounts of a node, with the node's ports."""

    def __init__(self, directory, running, ops_port):
        super().__init__(directory / DIGESTS, running.pids[0], self.requests)
        self.port, self.ops_port = running.port, ops_port

    def metric(self, name, label=""):
        """The sum of a metric's samples whose labels hold `label`, those of FORGETs apart: peers cannot count them."""
        text = run("curl", "-sf", f"http://127.0.0.1:{self.ops_port}/metrics").stdout
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                   if line.startswith((name + "{", name + " ")) and label in line and "FORGET" not in line.upper())

    def requests(self):
        """Requests of the kernel so far."""
        return self.metric("blobcache_fuse_requests_total")

    def put(self, file):
        """Stores a file: the name it has below a mount."""
        answer = run("curl", "-sf", "-T", file, f"http://127.0.0.1:{self.port}/blobs", timeout=600).stdout
        return next(word for word in answer.split('"') if word.startswith("sha256:")).removeprefix("sha256:")


@contextlib.contextmanager
def node(name, *more, cpuset=BOTH_CORES, memory="2GiB", number=0, mounts=("mount",)):
    """A fresh node with the mounts named: "mount", "mount-ro"; one Node for each."""
    data, ports = WORK / f"mount-{name}", (OURS_PORT + 2 * number, OURS_OPS_PORT + 2 * number)
    directories = [mount_point(f"{name}-{mount}") for mount in mounts]
    shutil.rmtree(data, ignore_errors=True)
    command = [program("basalt"), "serve", "--cpuset", cpuset, "--data-dir", data, "--memory", memory,
               "--blob-listen", f"127.0.0.1:{ports[0]}", "--ops-listen", f"127.0.0.1:{ports[1]}", *more]
    for mount, directory in zip(mounts, directories):
        command += [f"--{mount}", directory]
    try:
        with process(command, ports[0], WORK / f"mount-{name}.log") as pid:
            for directory in directories:
                wait_mounted(directory / DIGESTS)
            yield [Node(directory, Running("ours", ports[0], [pid]), ports[1]) for directory in directories]
    finally:
        for directory in directories:
            unmount(directory)
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def fuser(files, how="tuned", cpuset=BOTH_CORES):
    """The peer `fuser` with the files of a directory in its memory."""
    target = TARGET.parent / "peers"
    run("cargo", "build", "-q", "--release", "--locked", "--manifest-path", PEER, "--target-dir", target, timeout=900)
    at = mount_point("fuser")
    with open(WORK / "fuser.log", "w", encoding="utf-8") as sink:
        child = subprocess.Popen(pinned(cpuset, target / "release/fuser-peer", at, files, how), text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink)
    try:
        if child.stdout.readline() != "ready\n":
            raise Unmeasured(f"fuser-peer: {(WORK / 'fuser.log').read_text()[-300:]}")
        if how == "tuned":
            device = os.stat(at).st_dev
            pathlib.Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").write_text(
                str(READ_AHEAD_KB))

        def count():
            child.stdin.write("\n")
            child.stdin.flush()
            return float(child.stdout.readline())

        yield Mounted(at, child.pid, count)
    finally:
        child.stdin.close()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        unmount(at)


def mount_point(name):
    """An empty directory to mount on; what was left there is taken away."""
    at = WORK / f"at-{name}"
    unmount(at)
    at.mkdir(parents=True, exist_ok=True)
    return at


def unmount(at):
    """Takes a mount away, if there is one."""
    if any(line.split()[1] == str(at) for line in pathlib.Path("/proc/mounts").read_text().splitlines()):
        subprocess.run(["umount", "-l", at], check=False)


def wait_mounted(directory, seconds=20):
    """Waits until the node answers below its mount."""
    end = time.monotonic() + seconds
    while not directory.is_dir():
        if time.monotonic() > end:
            raise Unmeasured(f"{directory} is not there after {seconds} s")
        time.sleep(0.05)


def evict(*directories):
    """Drops the page cache of all files below: of natives, and of what passthrough reads."""
    for top in directories:
        for directory, _, files in os.walk(top):
            for name in files:
                with open(os.path.join(directory, name), "rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def device_bytes():
    """Read so far from the disk that has all of this."""
    device = os.stat(WORK).st_dev
    stat = pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
    if not stat.exists():
        raise Unmeasured(f"{WORK} is not on a block device: set BASALT_BENCH_DIR")
    return int(stat.read_text().split()[2]) * 512


def drop_inodes():
    """Entries and inodes of the whole machine leave the kernel's caches, and with them the pages of files on mounts."""
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("2")
    except OSError as error:
        raise Unmeasured(f"drop_caches: {error}: run it as root") from error
    time.sleep(SETTLE_S)


def switched_on():
    """FUSE over io_uring must be allowed by root."""
    if not ENABLE_URING.exists() or ENABLE_URING.read_text().strip() != "Y":
        raise Unmeasured(f"FUSE over io_uring is switched off: echo Y > {ENABLE_URING}")


def fio(at, seconds):
    """Random direct reads of 4 KiB, two jobs of depth 32, one on each core; with all context switches per read."""
    before, cpu_before = at.switches(), at.cpu_s()
    text = output("fio", "--name=read", f"--filename={at.file}", "--readonly", "--rw=randread", "--direct=1", "--bs=4k",
                  "--iodepth=32", "--numjobs=2", "--ioengine=io_uring", "--invalidate=0", "--time_based",
                  f"--runtime={seconds}", f"--cpus_allowed={BOTH_CORES}", "--cpus_allowed_policy=split",
                  "--group_reporting", "--output-format=json", timeout=seconds + 60)
    job = json.loads(text)["jobs"][0]
    count = job["read"]["total_ios"]
    if job["error"] or not count:
        raise Unmeasured(f"fio on {at.file}: error {job['error']}, {count} reads")
    client = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] / 1e3
    return {"iops": job["read"]["iops"], "switches": (at.switches() - before + job["ctx"]) / count,
            "cpu_us": (client + at.cpu_s() - cpu_before) * 1e6 / count}
