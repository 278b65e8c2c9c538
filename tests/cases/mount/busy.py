"""Uses the mount with the tree TREE as ROLE (read, list or map) says until it is gone: then prints with what it failed and
ends with 0. Says busy when it has begun. A wrong byte ends it with 1."""
import errno
import hashlib
import mmap
import os
import random
import sys

# ECANCELED: of FUSE over io_uring, when the daemon's thread is gone.
GONE = {errno.ECANCELED, errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.EIO, errno.ENODEV, errno.ESTALE}
role, tree = sys.argv[1:3]


def read(names):
    name = random.choice(names)
    with open(os.path.join(tree, name), "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        whole = hashlib.sha256()
        while part := file.read(random.choice([65_536, 1 << 20])):
            whole.update(part)
    assert whole.hexdigest() == name, f"wrong bytes in {name}"


def list_all(names):
    for entry in os.scandir(tree):
        entry.stat()
    assert sorted(os.listdir(tree)) == names


def touch(names):
    path = os.path.join(tree, random.choice(names))
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            view = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
            for _ in range(200):
                view[random.randrange(size)]


try:
    names = sorted(os.listdir(tree))
    assert names
    begun = False
    while True:
        {"read": read, "list": list_all, "map": touch}[role](names)
        if not begun:
            print("busy", flush=True)
            begun = True
except OSError as error:
    assert error.errno in GONE, error
    print(errno.errorcode[error.errno])
