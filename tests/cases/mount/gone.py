"""Uses files, each named by its SHA-256, while they go away: by stat, by listing, by open and read, past the kernel's cache and
through it, again and again. Whatever is read must be right, or fail as what is gone may. Says seen when all were seen and read
once; ends with 0 when no name leads anywhere any more and stays so for a second."""
import errno
import hashlib
import os
import sys
import time

GONE = {errno.ENOENT, errno.ESTALE, errno.EIO}
paths = sys.argv[1:]


def read(path, past_cache):
    fd = os.open(path, os.O_RDONLY)
    try:
        if past_cache:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        whole = hashlib.sha256()
        while part := os.read(fd, 100_000):
            whole.update(part)
        assert whole.hexdigest() == os.path.basename(path), f"wrong bytes in {path}"
    finally:
        os.close(fd)


def is_there(path):
    try:
        os.stat(path)
        return True
    except FileNotFoundError:
        return False


def look():
    """How many names lead somewhere."""
    there = [path for path in paths if is_there(path)]
    for past_cache in (True, False):
        for path in there:
            try:
                read(path, past_cache)
            except OSError as error:
                assert seen and error.errno in GONE, f"{path}: {error}"
    return len(there)


seen = False
assert look() == len(paths)
seen = True
print("seen", flush=True)

while look():
    time.sleep(0.05)
gone = time.monotonic()
print("gone", flush=True)
while time.monotonic() < gone + 1:
    assert look() == 0, "a name is there again"
    names = {name for path in paths for name in os.listdir(os.path.dirname(path))}
    assert not names & {os.path.basename(path) for path in paths}, "a name is listed that leads nowhere"
    time.sleep(0.1)
