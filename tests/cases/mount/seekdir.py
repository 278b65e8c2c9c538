"""telldir and seekdir in TREE: what follows a position is the same however often one goes back to it, and rewinding shows all."""
import ctypes
import os
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.readdir.argtypes = libc.telldir.argtypes = libc.rewinddir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
NAME_OFFSET = 19  # of struct dirent: d_ino, d_off, d_reclen, d_type


def next_name(directory):
    entry = libc.readdir(directory)
    return ctypes.string_at(entry + NAME_OFFSET).decode() if entry else None


def rest(directory):
    return list(iter(lambda: next_name(directory), None))


tree = sys.argv[1]
directory = libc.opendir(tree.encode())
assert directory, os.strerror(ctypes.get_errno())
positions, names = [], []
while True:
    at = libc.telldir(directory)
    name = next_name(directory)
    if name is None:
        break
    positions.append(at)
    names.append(name)
assert len(set(names)) == len(names) and len(set(positions)) == len(positions)
assert sorted(set(names) - {".", ".."}) == sorted(os.listdir(tree))
count = len(names)
for start in {0, 1, 2, 3, count // 3, count // 2, count - 2, count - 1}:
    libc.seekdir(directory, positions[start])
    assert rest(directory) == names[start:], f"after going back to entry {start} of {count}"
libc.rewinddir(directory)
assert rest(directory) == names
libc.closedir(directory)
print(count)
