"""Opens files, each named by its SHA-256 in the directory TREE, right before they are deleted at ADDRESS by HTTP, and reads them
then. Whatever is read is right, or fails as what is gone may. NAMES: a file of names. Prints how many could be read after the
DELETE was answered, and how many not."""
import errno
import hashlib
import http.client
import os
import random
import sys
import threading

GONE = {errno.ENOENT, errno.ESTALE, errno.EIO}
address, tree, names = sys.argv[1:4]
random.seed(int(sys.argv[4]))
cpus = sorted(os.sched_getaffinity(0))
connections = {}


def delete(name):
    # One connection for each CPU, so that it is not always the same column that hears of it.
    connection = connections.setdefault(random.randrange(4), http.client.HTTPConnection(address, timeout=60))
    connection.request("DELETE", f"/blobs/sha256:{name}")
    reply = connection.getresponse()
    reply.read()
    assert reply.status == 204, reply.status


def read(fd, name):
    """Whether it could be read."""
    try:
        whole, at = hashlib.sha256(), 0
        while part := os.pread(fd, 8192, at):
            whole.update(part)
            at += len(part)
    except OSError as error:
        assert error.errno in GONE, error
        return False
    assert whole.hexdigest() == name, f"wrong bytes in {name}"
    return True


def opened_first(name):
    """Opened, then deleted, then read."""
    try:
        fd = os.open(os.path.join(tree, name), os.O_RDONLY)
    except OSError as error:
        raise AssertionError(f"{name} is stored: {error}")
    delete(name)
    try:
        return read(fd, name)
    finally:
        os.close(fd)


def at_once(name):
    """Opened and read while it is deleted."""
    start, outcome = threading.Barrier(2), []

    def client():
        start.wait()
        try:
            fd = os.open(os.path.join(tree, name), os.O_RDONLY)
        except OSError as error:
            assert error.errno in GONE, error
            outcome.append(False)
            return
        outcome.append(read(fd, name))
        os.close(fd)

    thread = threading.Thread(target=client)
    thread.start()
    start.wait()
    delete(name)
    thread.join(60)
    assert outcome, f"{name}: the reader hangs, or saw what may not be"
    return outcome[0]


counts = {True: 0, False: 0}
for number, name in enumerate(open(names).read().split()):
    # Requests come to the column of the CPU where they are made.
    os.sched_setaffinity(0, {cpus[number % len(cpus)]})
    counts[(opened_first if number % 4 < 2 else at_once)(name)] += 1
print(counts[True], counts[False])
