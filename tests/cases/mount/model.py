"""COUNT random operations that SEED names on the mount ROOT, each compared with a naive model: the same files in TWINS."""
import errno
import mmap
import os
import random
import sys

root, twins, seed, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
choose = random.Random(seed)
tree = os.path.join(root, "by-digest", "sha256")
contents = {name: open(os.path.join(twins, name), "rb").read() for name in os.listdir(twins)}
names = sorted(contents)


class Handle:
    """An open descriptor and what the model knows of it. Descriptors made by dup share one position."""

    def __init__(self, fd, name, position):
        self.fd, self.name, self.position = fd, name, position

    @property
    def content(self):
        return contents[self.name]


handles, maps = [], []


def any_offset(size):
    near = choose.choice([0, 4096, 65_536, 131_072, 1 << 20, size, size // 2, choose.randrange(size + 1)])
    return max(near + choose.randint(-3, 3), 0)


def any_length():
    return choose.choice([0, 1, 7, 4096, 65_536, 131_073, 1 << 20, choose.randrange(1, 3 << 20)])


def must_be(what, found, expected):
    assert found == expected, f"{what}: {len(found)} bytes that differ from the {len(expected)} expected"


def open_one():
    name = choose.choice(names)
    suffix = choose.choice(["", "", "", ".safetensors", ".bin"])
    flags = choose.choice([os.O_RDONLY] * 4 + [os.O_RDONLY | os.O_NOFOLLOW, os.O_RDONLY | os.O_NOATIME])
    handles.append(Handle(os.open(os.path.join(tree, name + suffix), flags), name, [0]))


def close_one(handle):
    os.close(handle.fd)
    handles.remove(handle)


def dup_one(handle):
    handles.append(Handle(os.dup(handle.fd), handle.name, handle.position))


def pread(handle):
    at, length = any_offset(len(handle.content)), any_length()
    must_be(f"pread {length} at {at}", os.pread(handle.fd, length, at), handle.content[at : at + length])


def preadv(handle):
    at, lengths = any_offset(len(handle.content)), [choose.randrange(1, 70_000) for _ in range(choose.randint(1, 5))]
    buffers = [bytearray(length) for length in lengths]
    read = os.preadv(handle.fd, buffers, at)
    must_be(f"preadv {lengths} at {at}", b"".join(buffers)[:read], handle.content[at : at + sum(lengths)])


def read(handle):
    at, length = handle.position[0], any_length()
    expected = handle.content[at : at + length]
    must_be(f"read {length} at {at}", os.read(handle.fd, length), expected)
    handle.position[0] += len(expected)


def lseek(handle):
    size, at = len(handle.content), handle.position[0]
    whence = choose.choice([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END, os.SEEK_DATA, os.SEEK_HOLE])
    offset = any_offset(size)
    if whence in (os.SEEK_CUR, os.SEEK_END):
        offset -= at if whence == os.SEEK_CUR else size
    expected = {
        os.SEEK_SET: offset,
        os.SEEK_CUR: at + offset,
        os.SEEK_END: size + offset,
        os.SEEK_DATA: offset if offset < size else -errno.ENXIO,
        os.SEEK_HOLE: size if offset < size else -errno.ENXIO,
    }[whence]
    if expected < 0 and whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
        expected = -errno.EINVAL
    try:
        found = os.lseek(handle.fd, offset, whence)
        handle.position[0] = found
    except OSError as error:
        found = -error.errno
    assert found == expected, f"lseek to {offset} by {whence} in {size}: {found}, not {expected}"


def fstat(handle):
    found = os.fstat(handle.fd)
    assert found.st_size == len(handle.content), found


def stat():
    name = choose.choice(names)
    assert os.stat(os.path.join(tree, name)).st_size == len(contents[name])


def missing():
    name = choose.choice(names)
    name = choose.choice([name[1:] + "g", name[:-1], "%064x" % choose.getrandbits(256), name + "0"])
    try:
        os.stat(os.path.join(tree, name))
    except FileNotFoundError:
        return
    raise AssertionError(f"{name} is there")


def listdir():
    assert sorted(os.listdir(tree)) == names


def map_one(handle):
    if handle.content and len(maps) < 8:
        maps.append((mmap.mmap(handle.fd, len(handle.content), prot=mmap.PROT_READ), handle.name))


def touch_map():
    if maps:
        view, name = choose.choice(maps)
        at, length = choose.randrange(len(view)), any_length()
        must_be(f"map at {at}", view[at : at + length], contents[name][at : at + length])


def unmap_one():
    if maps:
        maps.pop(choose.randrange(len(maps)))[0].close()


def advise(handle):
    os.posix_fadvise(handle.fd, 0, 0, choose.choice([os.POSIX_FADV_DONTNEED, os.POSIX_FADV_WILLNEED,
                                                     os.POSIX_FADV_SEQUENTIAL, os.POSIX_FADV_RANDOM]))


ON_HANDLE = [close_one, dup_one, pread, pread, pread, preadv, read, read, lseek, lseek, fstat, map_one, advise]
ON_TREE = [open_one, open_one, stat, missing, listdir, touch_map, touch_map, unmap_one]
trail = []
try:
    for _ in range(count):
        act = choose.choice(ON_HANDLE + ON_TREE)
        if act in ON_TREE:
            trail.append(act.__name__)
            if act is not open_one or len(handles) < 60:
                act()
        elif handles:
            handle = choose.choice(handles)
            trail.append(f"{act.__name__} of {handle.name[:8]} as {handle.fd}")
            act(handle)
except BaseException:
    print("\n".join(trail[-15:]), file=sys.stderr)
    raise
print(count)
