"""The program `blobs`: stores, replaces and reads blobs whose bytes it knows, on the load's core."""

from .machine import LOAD_CORE, json_output, pinned, program

TIMEOUT_S = 900
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def command(verb, *arguments):
    """Its command line."""
    return pinned(LOAD_CORE, program("blobs"), "--do", verb, *arguments)


def blobs(verb, *arguments):
    """What it says of one run; a wrong byte makes the figure Unmeasured."""
    return json_output(*command(verb, *arguments), timeout=TIMEOUT_S)


def fill(port, listing, first, sizes, *more, verb="fill"):
    """Stores blobs of `sizes` (least, most), or replaces stored ones by them, and notes them in the listing."""
    return blobs(verb, "--connect", f"127.0.0.1:{port}", "--listing", listing, "--first", first,
                 "--size-min", sizes[0], "--size-max", sizes[1], *more)
