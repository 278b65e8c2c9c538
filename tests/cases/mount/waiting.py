"""COUNT processes that look up names of one blob, each another name, on CPUS in turn. Says ready, and starts them when GO is there.
When KILL is there it kills those that still wait, says so, and then gone when all of them are within SECONDS of the file CHECK."""
import os
import signal
import sys
import time

blob, go, kill, check = sys.argv[1:5]
seconds, count, cpus = float(sys.argv[5]), int(sys.argv[6]), [int(cpu) for cpu in sys.argv[7].split(",")]
print("ready", flush=True)


def wait_for(file):
    while not os.path.exists(file):
        time.sleep(0.01)


def look(n):
    os.sched_setaffinity(0, {cpus[n % len(cpus)]})
    try:
        os.stat(f"{blob}.{n}")
    finally:
        os._exit(0)


def those_that_wait(pids):
    return [pid for pid in pids if os.waitpid(pid, os.WNOHANG) == (0, 0)]


wait_for(go)
pids = []
for n in range(count):
    pid = os.fork()
    if pid == 0:
        look(n)
    pids.append(pid)
print("waiting", flush=True)
wait_for(kill)
pids = those_that_wait(pids)
for pid in pids:
    os.kill(pid, signal.SIGKILL)
print(f"{len(pids)} killed", flush=True)
wait_for(check)
until = time.monotonic() + seconds
while pids and time.monotonic() < until:
    pids = those_that_wait(pids)
    time.sleep(0.01)
assert not pids, f"{len(pids)} cannot be killed"
print("gone", flush=True)
