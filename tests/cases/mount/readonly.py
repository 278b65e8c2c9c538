"""Every system call that modifies, on the mount ROOT with the blobs NAME and OTHER: each must fail with the errno of the table.

What acts on a descriptor can only have one that was opened for reading, and fails with what that gives on any file system."""
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import stat
import sys
from errno import EACCES, EBADF, EINVAL, EPERM, EROFS

root, name, other = sys.argv[1:4]
tree = os.path.join(root, "by-digest", "sha256")
blob, fresh = os.path.join(tree, name), os.path.join(tree, "0" * 64)
libc = ctypes.CDLL(None, use_errno=True)
with open(blob, "rb") as file:
    content = file.read()


def call(function, *args):
    if getattr(libc, function)(*args) < 0:
        raise OSError(ctypes.get_errno(), function)


def opened(flags, path=blob, mode=0o644):
    return lambda: os.close(os.open(path, flags, mode))


def by_descriptor(act, path=blob):
    def acting():
        fd = os.open(path, os.O_RDONLY)
        try:
            act(fd)
        finally:
            os.close(fd)

    return acting


def shared_writable_map(fd):
    mmap.mmap(fd, len(content), flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def made_writable_later(fd):
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + 3 * [ctypes.c_int] + [ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    at = libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    assert at != ctypes.c_void_p(-1).value
    call("mprotect", at, 4096, mmap.PROT_READ | mmap.PROT_WRITE)


def copied_onto(fd):
    with open("/proc/self/exe", "rb") as source:
        os.copy_file_range(source.fileno(), fd, 10)


def cloned_onto(fd):
    with open(os.path.join(tree, other), "rb") as source:
        fcntl.ioctl(fd, FICLONE, source.fileno())


def rename_flags(flags, to):
    return lambda: call("renameat2", -100, blob.encode(), -100, to.encode(), flags)


def bound_socket():
    with socket.socket(socket.AF_UNIX) as made:
        # The path would be too long for a socket's address.
        os.chdir(tree)
        made.bind("sock")


FICLONE, NOREPLACE, EXCHANGE = 0x40049409, 1, 2
O_TMPFILE = 0o20200000
TABLE = [
    ("open for writing", EROFS, opened(os.O_WRONLY)),
    ("open for reading and writing", EROFS, opened(os.O_RDWR)),
    ("open to append", EROFS, opened(os.O_WRONLY | os.O_APPEND)),
    ("open to truncate", EROFS, opened(os.O_WRONLY | os.O_TRUNC)),
    ("open for reading, with O_TRUNC", EROFS, opened(os.O_RDONLY | os.O_TRUNC)),
    ("open direct for writing", EROFS, opened(os.O_WRONLY | os.O_DIRECT)),
    ("open with O_CREAT, for writing", EROFS, opened(os.O_WRONLY | os.O_CREAT)),
    ("create", EROFS, opened(os.O_WRONLY | os.O_CREAT, fresh)),
    ("create, for reading", EROFS, opened(os.O_RDONLY | os.O_CREAT, fresh)),
    ("create exclusively", EROFS, opened(os.O_RDWR | os.O_CREAT | os.O_EXCL, fresh)),
    ("create any name", EROFS, opened(os.O_WRONLY | os.O_CREAT, os.path.join(tree, "x"))),
    ("create in the root", EROFS, opened(os.O_WRONLY | os.O_CREAT, os.path.join(root, "x"))),
    ("create in by-digest", EROFS, opened(os.O_WRONLY | os.O_CREAT, os.path.join(root, "by-digest", "x"))),
    ("a file without a name", EROFS, opened(os.O_RDWR | O_TMPFILE, tree)),
    ("mkdir", EROFS, lambda: os.mkdir(fresh)),
    ("mkdir in the root", EROFS, lambda: os.mkdir(os.path.join(root, "x"))),
    ("rmdir", EROFS, lambda: os.rmdir(tree)),
    ("rmdir of by-digest", EROFS, lambda: os.rmdir(os.path.join(root, "by-digest"))),
    ("unlink", EROFS, lambda: os.unlink(blob)),
    ("unlink by a name with a suffix", EROFS, lambda: os.unlink(blob + ".bin")),
    ("rename", EROFS, lambda: os.rename(blob, fresh)),
    ("rename onto another", EROFS, lambda: os.rename(blob, os.path.join(tree, other))),
    ("rename of a directory", EROFS, lambda: os.rename(tree, os.path.join(root, "by-digest", "x"))),
    ("rename, not replacing", EROFS, rename_flags(NOREPLACE, fresh)),
    ("rename, exchanging", EROFS, rename_flags(EXCHANGE, os.path.join(tree, other))),
    ("link", EROFS, lambda: os.link(blob, fresh)),
    ("symlink", EROFS, lambda: os.symlink("target", fresh)),
    ("mknod of a file", EROFS, lambda: os.mknod(fresh, stat.S_IFREG | 0o600)),
    ("mknod of a pipe", EROFS, lambda: os.mkfifo(fresh)),
    ("mknod of a device", EROFS, lambda: os.mknod(fresh, stat.S_IFCHR | 0o600, os.makedev(1, 3))),
    ("bind of a socket", EROFS, bound_socket),
    ("chmod", EROFS, lambda: os.chmod(blob, 0o600)),
    ("chmod to what it is", EROFS, lambda: os.chmod(blob, 0o444)),
    ("chmod of a directory", EROFS, lambda: os.chmod(tree, 0o700)),
    ("chmod of the root", EROFS, lambda: os.chmod(root, 0o700)),
    ("chown", EROFS, lambda: os.chown(blob, 1, 1)),
    ("lchown", EROFS, lambda: os.lchown(blob, 1, 1)),
    ("chown of a directory", EROFS, lambda: os.chown(tree, 1, 1)),
    ("utimes to now", EROFS, lambda: os.utime(blob)),
    ("utimes", EROFS, lambda: os.utime(blob, (1, 1))),
    ("utimes of a directory", EROFS, lambda: os.utime(tree, (1, 1))),
    ("truncate", EROFS, lambda: os.truncate(blob, 0)),
    ("truncate to its size", EROFS, lambda: os.truncate(blob, len(content))),
    ("truncate to more", EROFS, lambda: os.truncate(blob, 1 << 40)),
    ("setxattr", EROFS, lambda: os.setxattr(blob, "user.x", b"y")),
    ("setxattr of the digest", EROFS, lambda: os.setxattr(blob, "user.basalt.digest", b"y")),
    ("setxattr on a directory", EROFS, lambda: os.setxattr(tree, "user.x", b"y")),
    ("setxattr of trusted", EROFS, lambda: os.setxattr(blob, "trusted.x", b"y")),
    ("removexattr", EROFS, lambda: os.removexattr(blob, "user.basalt.digest")),
    ("removexattr of what is not there", EROFS, lambda: os.removexattr(blob, "user.x")),
    ("fchmod", EROFS, by_descriptor(lambda fd: os.fchmod(fd, 0o600))),
    ("fchown", EROFS, by_descriptor(lambda fd: os.fchown(fd, 1, 1))),
    ("futimens", EROFS, by_descriptor(lambda fd: os.utime(fd, (1, 1)))),
    ("fsetxattr", EROFS, by_descriptor(lambda fd: os.setxattr(fd, "user.x", b"y"))),
    ("fremovexattr", EROFS, by_descriptor(lambda fd: os.removexattr(fd, "user.x"))),
    ("open again by /proc for writing", EROFS, by_descriptor(lambda fd: open(f"/proc/self/fd/{fd}", "r+b"))),
    ("write", EBADF, by_descriptor(lambda fd: os.write(fd, b"x"))),
    ("pwrite", EBADF, by_descriptor(lambda fd: os.pwrite(fd, b"x", 0))),
    ("ftruncate", EINVAL, by_descriptor(lambda fd: os.ftruncate(fd, 0))),
    ("fallocate", EBADF, by_descriptor(lambda fd: os.posix_fallocate(fd, 0, 4096))),
    ("copy_file_range onto it", EBADF, by_descriptor(copied_onto)),
    ("clone onto it", EBADF, by_descriptor(cloned_onto)),
    ("a writable map", EACCES, by_descriptor(shared_writable_map)),
    ("a map made writable", EACCES, by_descriptor(made_writable_later)),
]

wrong = []
for what, expected, act in TABLE:
    try:
        act()
        found = "success"
    except OSError as error:
        found = errno.errorcode[error.errno]
    if found != errno.errorcode[expected]:
        wrong.append(f"{what}: {found}, not {errno.errorcode[expected]}")
with open(blob, "rb") as file:
    if file.read() != content:
        wrong.append("the bytes have changed")
if sorted(os.listdir(tree)) != sorted([name, other]) or "by-digest" not in os.listdir(root):
    wrong.append(f"the names have changed: {os.listdir(root)}, {os.listdir(tree)}")
found = os.stat(blob)
if (stat.S_IMODE(found.st_mode), found.st_size) != (0o444, len(content)):
    wrong.append(f"the attributes have changed: {found}")
assert not wrong, "\n".join(wrong)
print(len(TABLE))
