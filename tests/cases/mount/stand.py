"""Stops the one thread TID where it is, as if it slept in the kernel, until the file GO is there. Says stopped, and then goes on.
By ptrace: the thread itself, and all others of its process, know nothing of it."""
import ctypes
import os
import sys
import time

SEIZE, INTERRUPT, DETACH, ALL_THREADS = 0x4206, 0x4207, 17, 0x40000000
tid, go = int(sys.argv[1]), sys.argv[2]
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request):
    if libc.ptrace(request, tid, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


ptrace(SEIZE)
ptrace(INTERRUPT)
stopped, status = os.waitpid(tid, ALL_THREADS)
assert stopped == tid and os.WIFSTOPPED(status), status
print("stopped", flush=True)
while not os.path.exists(go):
    # Who traces a thread that is killed has to take notice before its process can end.
    if os.waitpid(tid, ALL_THREADS | os.WNOHANG) != (0, 0):
        sys.exit()
    time.sleep(0.01)
ptrace(DETACH)
print("goes on", flush=True)
