# forbid.py ERRNO RULE... -- PROGRAM ARGUMENT...: executes the program; calls that a RULE names the kernel refuses with that errno,
# to it and all it starts (seccomp). A RULE is SYSCALL[:ARGUMENT=VALUE]..., the ARGUMENT a number from 0 to 5.
import ctypes
import errno
import os
import struct
import sys

NUMBERS = {"ioctl": 16, "io_uring_setup": 425, "io_uring_enter": 426}
LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
X86_64 = 0xC000003E

at = sys.argv.index("--")
refusal, rules, program = sys.argv[1], sys.argv[2:at], sys.argv[at + 1 :]
code = []
for rule in rules:
    name, *conditions = rule.split(":")
    # Offsets in struct seccomp_data: the architecture, the number, the low halves of the arguments.
    checks = [(4, X86_64), (0, NUMBERS[name])]
    for condition in conditions:
        argument, value = condition.split("=")
        checks.append((16 + 8 * int(argument), int(value, 0)))
    for n, (offset, value) in enumerate(checks):
        code.append((LOAD, 0, 0, offset))
        # What is not equal jumps behind this rule.
        code.append((JUMP_EQUAL, 0, 2 * (len(checks) - n) - 1, value))
    code.append((RETURN, 0, 0, REFUSE | getattr(errno, refusal)))
code.append((RETURN, 0, 0, ALLOW))
filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *c) for c in code))
parts = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())
assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, parts, 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(program[0], program)
