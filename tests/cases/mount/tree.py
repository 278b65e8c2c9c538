"""Names, attributes and what hangs on them below the mount ROOT, whose blobs the JSON file BLOBS names with their sizes."""
import errno
import json
import os
import stat
import sys

root, blobs = sys.argv[1], json.load(open(sys.argv[2]))
tree = os.path.join(root, "by-digest", "sha256")
path_of = lambda name: os.path.join(tree, name)


def refused(codes, call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno in codes, f"{args}: {error}, not {[errno.errorcode[code] for code in codes]}"
    else:
        raise AssertionError(f"{call.__name__} {args} succeeds")


def names():
    assert "by-digest" in os.listdir(root), os.listdir(root)
    assert os.listdir(os.path.join(root, "by-digest")) == ["sha256"]
    listed = os.listdir(tree)
    assert sorted(listed) == sorted(blobs), "the listing is not what is stored"
    for entry in os.scandir(tree):
        assert entry.is_file(follow_symlinks=False), f"d_type of {entry.name}"
        assert entry.inode() == os.lstat(entry.path).st_ino, f"d_ino of {entry.name}"
    some = max(blobs)
    for suffix in (".safetensors", ".bin", ".tar.gz", ".pt"):
        assert os.stat(path_of(some + suffix)).st_size == blobs[some], suffix
    assert sorted(os.listdir(tree)) == sorted(blobs), "a name with a suffix is listed after it was asked for"
    with_letter = next(name for name in blobs if name.upper() != name)
    for missing in (with_letter.upper(), with_letter.upper() + ".safetensors", some[:-1], some + "0", some[:-1] + "g",
                    "0" * 64, "0" * 64 + ".safetensors", "x", ".safetensors", "sha256:" + some, " " + some[1:], "é" * 32):
        refused([errno.ENOENT], os.stat, path_of(missing))
        refused([errno.ENOENT], open, path_of(missing))
    for missing in ("x", "by-digest/md5", "by-digest/sha2567", "by-digest/SHA256", "by-digest/" + some):
        refused([errno.ENOENT], os.stat, os.path.join(root, missing))
    refused([errno.ENOENT, errno.ENAMETOOLONG], os.stat, path_of("a" * 255))
    refused([errno.ENAMETOOLONG], os.stat, path_of("a" * 5000))
    refused([errno.ENOTDIR], os.stat, path_of(some + "/x"))
    refused([errno.ENOTDIR], os.listdir, path_of(some))
    refused([errno.EISDIR], open, tree)
    refused([errno.EINVAL], os.readlink, path_of(some))
    assert os.path.samefile(os.path.join(tree, "..", ".."), root)


def attributes():
    for path in (root, os.path.join(root, "by-digest"), tree):
        found = os.stat(path)
        assert stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o555, f"{path}: {oct(found.st_mode)}"
        assert found.st_nlink >= 1 and found.st_ino > 0, found
    device, inodes = os.stat(tree).st_dev, set()
    for name, size in blobs.items():
        found = os.lstat(path_of(name))
        assert stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o444, f"{name}: {oct(found.st_mode)}"
        assert found.st_size == size, f"{name}: {found.st_size}, not {size}"
        assert found.st_nlink == 1 and found.st_dev == device, found
        # Programs take a file with fewer blocks than bytes for one with holes.
        assert found.st_blocks * 512 >= size, f"{name}: {found.st_blocks} blocks for {size} bytes"
        assert found.st_blksize >= 4096, found
        inodes.add(found.st_ino)
        with open(path_of(name), "rb") as file:
            for again in (os.fstat(file.fileno()), os.stat(path_of(name)), os.stat(path_of(name))):
                assert (again.st_ino, again.st_size, again.st_mtime_ns) == (found.st_ino, size, found.st_mtime_ns), name
    assert len(inodes) == len(blobs), "two blobs have one inode number"


def extended_attributes():
    for name in blobs:
        path = path_of(name)
        assert os.getxattr(path, "user.basalt.digest") == b"sha256:" + name.encode(), path
        assert "user.basalt.digest" in os.listxattr(path)
        refused([errno.ENODATA], os.getxattr, path, "user.other")
    refused([errno.ENODATA], os.getxattr, tree, "user.basalt.digest")
    with open(path_of(max(blobs)), "rb") as file:
        assert os.getxattr(file.fileno(), "user.basalt.digest").startswith(b"sha256:")


def file_system():
    found = os.statvfs(root)
    assert found.f_frsize >= 512 and found.f_blocks > 0 and 0 <= found.f_bavail <= found.f_bfree <= found.f_blocks, found
    assert found.f_namemax >= 80, found
    assert found.f_blocks * found.f_frsize >= sum(blobs.values()), found
    with open(path_of(max(blobs)), "rb") as file:
        assert os.fstatvfs(file.fileno()).f_blocks == found.f_blocks


def holes():
    for name, size in blobs.items():
        with open(path_of(name), "rb", buffering=0) as file:
            fd = file.fileno()
            for at in sorted({0, size // 2, max(size - 1, 0)}):
                if at < size:
                    assert os.lseek(fd, at, os.SEEK_DATA) == at, f"{name}: data from {at} of {size}"
                    assert os.lseek(fd, at, os.SEEK_HOLE) == size, f"{name}: hole after {at} of {size}"
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                refused([errno.ENXIO], os.lseek, fd, size, whence)
                refused([errno.ENXIO], os.lseek, fd, size + 10_000_000, whence)
            assert os.lseek(fd, 0, os.SEEK_END) == size


for check in (names, attributes, extended_attributes, file_system, holes):
    check()
