"""Reads files, each named by its SHA-256, in every way there is; the bytes must be the same in all."""
import hashlib
import mmap
import os
import random
import sys
import tempfile

random.seed(1)


def by_read(fd, size):
    out = b""
    while part := os.read(fd, 1_000_003):
        out += part
    return out


def by_mmap(fd, size):
    if not size:
        return b""
    with mmap.mmap(fd, size, prot=mmap.PROT_READ) as view:
        # Touched at random first, so that pages come in any order.
        for _ in range(min(size // 4096, 500)):
            view[random.randrange(size)]
        return view[:]


def by_private_mmap(fd, size):
    if not size:
        return b""
    with mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as view:
        view[0] ^= 1
        view[0] ^= 1
        return view[:]


def by_direct(fd, size):
    buffer, out, at = mmap.mmap(-1, 1 << 20), bytearray(), 0
    direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT)
    while count := os.preadv(direct, [buffer], at):
        out += buffer[:count]
        at += count
    os.close(direct)
    return bytes(out)


def by_sendfile(fd, size):
    return copied(lambda to, left: os.sendfile(to, fd, None, left), size)


def by_splice(fd, size):
    source, sink = os.pipe()

    def move(to, left):
        count = os.splice(fd, sink, min(left, 65_536))
        done = 0
        while done < count:
            done += os.splice(source, to, count - done)
        return count

    try:
        return copied(move, size)
    finally:
        os.close(source)
        os.close(sink)


def copied(move, size):
    with tempfile.TemporaryFile(dir="/var/tmp") as to:
        left = size
        while left:
            count = move(to.fileno(), left)
            assert count > 0, f"ends {left} bytes early"
            left -= count
        to.seek(0)
        return to.read()


def backwards(fd, size):
    parts, end = [], size
    while end:
        begin = max(end - 300_007, 0)
        part = os.pread(fd, end - begin, begin)
        assert len(part) == end - begin, f"{len(part)} of {end - begin} bytes at {begin}"
        parts.append(part)
        end = begin
    return b"".join(reversed(parts))


def by_pieces(fd, size):
    """Every read says how much it may: to the end and not beyond."""
    out = bytearray(size)
    starts = list(range(0, size, max(size // 50, 1)))
    random.shuffle(starts)
    for begin in starts:
        part = os.pread(fd, max(size // 50, 1), begin)
        assert len(part) == min(max(size // 50, 1), size - begin)
        out[begin : begin + len(part)] = part
    assert os.pread(fd, 100, size) == b"" and os.pread(fd, 100, size + 1_000_000_007) == b""
    if size:
        assert len(os.pread(fd, 4096, size - 1)) == 1
    return bytes(out)


def without_cache(fd, size):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    return by_read(fd, size)


WAYS = [by_read, by_mmap, by_private_mmap, by_direct, by_sendfile, by_splice, backwards, by_pieces, without_cache]
for path in sys.argv[1:]:
    for way in WAYS:
        fd = os.open(path, os.O_RDONLY)
        size = os.fstat(fd).st_size
        # The largest one way only: this is about ways, not about amounts.
        if size > 8 << 20 and way is not by_mmap:
            os.close(fd)
            continue
        sum = hashlib.sha256(way(fd, size)).hexdigest()
        assert sum == os.path.basename(path), f"{way.__name__}: wrong bytes in {path} of {size} bytes"
        os.close(fd)
