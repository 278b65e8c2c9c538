"""The section `reopen`: how long a node with many blobs takes from exec to its first answer and to having loaded all."""

import contextlib
import json
import shutil
import signal
import subprocess
import time

from .ahead import drop_page_cache
from .blobs import KIB, MIB, TIMEOUT_S, command, fill
from .figure import Limit
from .machine import WORK, Unmeasured, wait_port
from .servers import OURS_OPS_PORT, OURS_PORT, serve_command

SMALL, SMALL_SIZES = 200_000, (4 * KIB, 64 * KIB)
LARGE, LARGE_SIZES = 2_000, (4 * MIB, 4 * MIB)
# Numbers of the large ones, and of those stored before each kill, begin here.
LARGE_FIRST, MORE_FIRST = 10_000_000, 20_000_000
# Stored before each kill: what no checkpoint has.
MORE_PART = 50
MEMORY = "2GiB"


def reopen(rounds, seconds, scale=1.0):
    """Clean stop and start, then kill -9 and start, round by round, on the same data."""
    del seconds  # Nothing here runs for a time of its own.
    notes = f"{round(SMALL * scale):,} of 4 to 64 KiB, {round(LARGE * scale):,} of 4 MiB"
    figures = {}
    for how, goal in [("a clean stop", 2.0), ("kill -9", 5.0)]:
        figures[how] = [
            Limit(f"start after {how}: exec to the first right GET", "s", "lower", goal, notes),
            Limit(f"start after {how}: exec to all loaded", "s", "lower", goal, "GETs of 4 connections meanwhile"),
            Limit(f"start after {how}: right GETs before all was loaded", "GETs", "higher", 1, "every byte compared")]
    listing = WORK / "reopen-listing"
    listing.unlink(missing_ok=True)
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    with node() as child:
        wait_port(OURS_PORT, child)
        fill(OURS_PORT, listing, 0, SMALL_SIZES, "--count", round(SMALL * scale))
        fill(OURS_PORT, listing, LARGE_FIRST, LARGE_SIZES, "--count", round(LARGE * scale), "--conns", 8)
        stop(child, signal.SIGTERM)
    for number in range(rounds):
        # Every blob once, in the last round: what was stored before a kill must be there too.
        for how, end in [("a clean stop", signal.SIGKILL), ("kill -9", signal.SIGTERM)]:
            drop_page_cache()
            every = number == rounds - 1 and how == "kill -9"
            child, seen = start(listing, every)
            for figure, value in zip(figures[how], seen):
                figure.add("ours", value)
            if end == signal.SIGKILL:
                more = max(1, round(SMALL * scale / MORE_PART))
                fill(OURS_PORT, listing, MORE_FIRST + number * more, SMALL_SIZES, "--count", more)
            stop(child, end)
    shutil.rmtree(WORK / "ours", ignore_errors=True)
    listing.unlink()
    return figures["a clean stop"] + figures["kill -9"]


@contextlib.contextmanager
def node():
    """The node; killed when the block ends while it runs."""
    child = launch()
    try:
        yield child
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def launch():
    """Starts the node; it may not listen yet."""
    with open(WORK / "ours.log", "a", encoding="utf-8") as sink:
        return subprocess.Popen(serve_command(extra=["--memory", MEMORY]), stdin=subprocess.DEVNULL, stdout=sink,
                                stderr=sink)


def stop(child, how):
    """Ends the node; an orderly end must be one."""
    child.send_signal(how)
    code = child.wait(120)
    if how == signal.SIGTERM and code != 0:
        raise Unmeasured(f"the node stopped with {code}: {(WORK / 'ours.log').read_text()[-400:]}")


def start(listing, every):
    """Starts the node before readers that wait for it: the process, and seconds to the first GET and to all loaded, GETs."""
    reader = subprocess.Popen(
        [str(c) for c in command("read", "--connect", f"127.0.0.1:{OURS_PORT}", "--ops", f"127.0.0.1:{OURS_OPS_PORT}",
                                 "--listing", listing, "--conns", 4, *(["--all"] if every else []))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if reader.stdout.readline() != "waiting\n":
        raise Unmeasured(f"blobs read: {reader.communicate()[1][-300:]}")
    begin = time.monotonic_ns()
    child = launch()
    try:
        text, words = reader.communicate(timeout=TIMEOUT_S)
        if reader.returncode != 0:
            raise Unmeasured(f"reading after a start: {words[-300:]}")
    except (Unmeasured, subprocess.TimeoutExpired) as error:
        reader.kill()
        child.kill()
        child.wait()
        raise Unmeasured(str(error)) from error
    seen = json.loads(text)
    return child, [(seen["first_ns"] - begin) / 1e9, (seen["loaded_ns"] - begin) / 1e9, seen["reads_before"]]
