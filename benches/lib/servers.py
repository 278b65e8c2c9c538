"""Servers under measurement: ours, the PUT probe, and the peers. Each is a context manager with `port` and `pids`."""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess

from .machine import LOAD_CORE, ROOT, SERVER_CORE, WORK, Unmeasured, output, program, wait_port

OURS_PORT, OURS_OPS_PORT, PROBE_PORT = 28110, 28111, 28112
PEER_PORTS = {"static": 28103, "varnish": 28102, "origin": 28100, "slice-origin": 28104, "slice": 28105,
              "slice-varnish": 28106}
PEERS = ROOT / "benches/peers/peers"


class Running:
    """A server that listens."""

    def __init__(self, name, port, pids):
        self.name, self.port, self.pids = name, port, pids


@contextlib.contextmanager
def process(command, port, log):
    """A process of ours that listens on `port` until the block ends; TERM, and KILL after 20 s."""
    with open(log, "w", encoding="utf-8") as sink:
        child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink)
        try:
            try:
                wait_port(port, child)
            except Unmeasured as error:
                raise Unmeasured(f"{error}; {log}: {pathlib.Path(log).read_text()[-400:]}") from error
            yield child.pid
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def serve_command(cpuset=str(SERVER_CORE), extra=()):
    """The command line of the node, its data below WORK."""
    return [str(c) for c in [
        program("basalt"), "serve", "--cpuset", cpuset, "--data-dir", WORK / "ours",
        "--blob-listen", f"127.0.0.1:{OURS_PORT}", "--ops-listen", f"127.0.0.1:{OURS_OPS_PORT}", *extra]]


@contextlib.contextmanager
def ours(cpuset=str(SERVER_CORE), fresh=True, extra=()):
    """The node on `cpuset`, with an empty data directory if `fresh`."""
    data = WORK / "ours"
    if fresh:
        shutil.rmtree(data, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with process(serve_command(cpuset, extra), OURS_PORT, WORK / "ours.log") as pid:
        yield Running("ours", OURS_PORT, [pid])
    if fresh:
        shutil.rmtree(data, ignore_errors=True)


@contextlib.contextmanager
def put_probe():
    """The bare-metal PUT, on the server's core."""
    WORK.mkdir(parents=True, exist_ok=True)
    command = [program("probe_put"), "--listen", f"127.0.0.1:{PROBE_PORT}", "--file", WORK / "probe.dat",
               "--core", SERVER_CORE]
    with process(command, PROBE_PORT, WORK / "probe.log") as pid:
        yield Running("probe", PROBE_PORT, [pid])


@contextlib.contextmanager
def peer(name, **settings):
    """A peer started by benches/peers/peers; `settings` are variables that it reads."""
    cores = {"SERVER_CORE": str(SERVER_CORE), "ORIGIN_CORE": str(LOAD_CORE)}
    done = subprocess.run([PEERS, "start", name], env={**os.environ, **cores, **settings, "BASALT_BENCH_DIR": str(WORK)},
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Unmeasured(f"peer {name}: {done.stderr.strip()}")
    try:
        yield Running(name, PEER_PORTS[name], output(PEERS, "pids", name).split())
    finally:
        subprocess.run([PEERS, "stop", name], check=False)


def store(port, body):
    """PUTs a blob and returns its path."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("PUT", "/blobs", body)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 201:
        raise Unmeasured(f"PUT /blobs: {answer.status} {text[:200]!r}")
    return "/blobs/" + json.loads(text)["digest"]


def warm(port, paths):
    """GETs every path once, whole."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        size = len(answer.read())
        if answer.status != 200:
            raise Unmeasured(f"GET {path} on port {port}: {answer.status}, {size} bytes")
    connection.close()
