"""Reads files (each argument FILE=TWIN) whole, by pieces and by a map, past the kernel's cache: every byte must be TWIN's, or
the read must fail with EIO. Prints for each file: right, or error."""
import errno
import os
import sys


def pieces(fd, expected, size):
    failed = False
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    for at in range(0, len(expected), size):
        end = min(at + size, len(expected))
        while at < end:
            try:
                found = os.pread(fd, end - at, at)
            except OSError as error:
                assert error.errno == errno.EIO, error
                failed = True
                break
            # What comes before a page that cannot be had is given, and the error with the next read.
            assert found and found == expected[at : at + len(found)], f"wrong bytes within {len(found)} at {at}"
            at += len(found)
    return failed


def mapped(path):
    """A page that cannot be had is SIGBUS, so a child looks."""
    child = os.fork()
    if child == 0:
        import mmap

        try:
            file = open(path, "rb")
        except OSError as error:
            # Damage that is known is told by the open already.
            os._exit(4 if error.errno == errno.EIO else 5)
        view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        os._exit(0 if view[:] == expected else 3)
    _, status = os.waitpid(child, 0)
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 4
    assert code in (0, 4), f"a map of {path} shows wrong bytes or fails otherwise: {code}"
    return code == 4


for pair in sys.argv[1:]:
    path, twin = pair.split("=")
    expected = open(twin, "rb").read()
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError as error:
        assert error.errno == errno.EIO, error
        print("error")
        continue
    failed = [pieces(fd, expected, size) for size in (1 << 20, 4096, len(expected))]
    failed.append(mapped(path))
    print("error" if any(failed) else "right")
