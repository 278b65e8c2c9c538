"""Opens all files that the arguments name (each by its SHA-256; a line of a file NAMES, in each directory DIRECTORY) at once and
reads them in turn, a piece of each at a time. Ends with 0 if every byte is right. Arguments: NAMES DIRECTORY…"""
import hashlib
import os
import resource
import sys

PIECE_BYTES = 8192
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
names = open(sys.argv[1]).read().split()
files = [(os.open(os.path.join(d, name), os.O_RDONLY), name, hashlib.sha256()) for d in sys.argv[2:] for name in names]
print(f"{len(files)} open", flush=True)
left = list(files)
while left:
    still = []
    for fd, name, whole in left:
        # One piece at a time, so that nothing is read ahead for one file alone.
        part = os.read(fd, PIECE_BYTES)
        whole.update(part)
        if part:
            still.append((fd, name, whole))
    left = still
for fd, name, whole in files:
    assert whole.hexdigest() == name, f"wrong bytes in {name}"
    os.close(fd)
