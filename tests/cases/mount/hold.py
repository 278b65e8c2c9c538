# hold.py GO must|may PATH...: opens all, reads a little of each, waits for the file GO, and reads all past the kernel's cache.
#   must   every file is right      may   it is right, or cannot be read any more
# Prints "open", and then how many were right.
import errno
import hashlib
import os
import sys
import time

go, how, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
files = [os.open(path, os.O_RDONLY) for path in paths]
for fd in files:
    os.pread(fd, 100, 0)
print("open", flush=True)
while not os.path.exists(go):
    time.sleep(0.01)
right = 0
for fd, path in zip(files, paths):
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    whole, at = hashlib.sha256(), 0
    try:
        while part := os.pread(fd, 100_000, at):
            whole.update(part)
            at += len(part)
    except OSError as error:
        assert how == "may" and error.errno in (errno.EIO, errno.ESTALE), error
        continue
    assert whole.hexdigest() == os.path.basename(path), f"wrong bytes: {at} of {path}"
    assert how == "may" or os.fstat(fd).st_size == at
    right += 1
print(f"{right} right", flush=True)
