"""Start a script confined: the first code that runs inside a sandbox. Standard library only.

usage: python -S -s confined.py CONFINEMENT SCRIPT [ARGUMENT ...]

CONFINEMENT is marshalled, in hex: {"uid": int | None, "rlimits": {NAME: value}, "cores": [int], "keep_out": bool}. It
runs under `-S`, so that no start-up file of the task's environment (.pth, sitecustomize) runs before root is given up,
and imports little: what every sandbox starts with takes longer to import than to do.
"""

import ctypes
import errno
import marshal
import os
import resource
import struct
import sys
from _frozen_importlib_external import SourceFileLoader

PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION = 0x20080522
SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1, 4
SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO = 0x7FFF0000, 0x50000
BPF_LD_W_ABS, BPF_JEQ_K, BPF_RET_K = 0x20, 0x15, 0x06
NUMBER, ARCH = 0, 4  # where struct seccomp_data has them
SECCOMP = {"x86_64": 317, "aarch64": 277}
# (AUDIT_ARCH, sched_setaffinity, the three calls of the key store) of a machine and of the 32-bit programs it runs;
# X32 is a bit of the number there.
X32 = 0x40000000
CALLS = {
    "x86_64": ((0xC000003E, (203, 203 | X32), (248, 249, 250, 248 | X32, 249 | X32, 250 | X32)),
               (0x40000003, (241,), (286, 287, 288))),
    "aarch64": ((0xC00000B7, (122,), (217, 218, 219)), (0x40000028, (241,), (309, 310, 311))),
}  # fmt: skip


def confine(config):
    """Give up root and take limits on, for good.

    Process limits bind only an unprivileged user, so a sandbox that was started as root leaves root first.
    """
    if config["uid"] is not None and os.getuid() == 0:
        os.setgroups([])
        os.setgid(config["uid"])
        os.setuid(config["uid"])
        # What root could still pass on to a program: nothing can take it up, but it is nobody's business either.
        ctypes.CDLL(None).capset(struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24))
    for name, value in config["rlimits"].items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))
    if config["cores"]:
        try:
            os.sched_setaffinity(0, config["cores"])
        except OSError:  # the host may have taken a core away since
            pass
    refuse_calls(os.uname().machine, keep_cores=bool(config["cores"]), keep_out=config["keep_out"])
    os.umask(0o022)


def refuse_calls(machine, keep_cores, keep_out):
    """Make some system calls do nothing, here and in all that this process starts.

    The kernel's key store, from which `keep_out` keeps out, outlives every process of a user: what one sample leaves
    there, the next would find. It is answered as on a kernel without one. A change of affinity, where cores are to be
    kept, is answered as if it had been done: Intel's OpenMP, which binds its threads even where nobody asks, aborts on
    an error. Where the host refuses the filter, all stays as it was. SPEC_ALLOW, because older kernels would slow down
    what is measured by the mitigations that they tie to a filter.
    """
    if machine not in SECCOMP or not (keep_cores or keep_out):
        return
    libc = ctypes.CDLL(None)
    code = filter_code(machine, keep_cores, keep_out)
    kept = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("HP", len(code) // 8, ctypes.addressof(kept)))
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall(SECCOMP[machine], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, program)


def filter_code(machine, keep_cores, keep_out):
    """The filter's code: refused calls are not run and answered with their error number, 0 for none."""
    code = []
    for arch, affinity, keys in CALLS[machine]:
        inner = [(BPF_LD_W_ABS, 0, 0, NUMBER)]
        refused = [(number, 0) for number in affinity if keep_cores]
        refused += [(number, errno.ENOSYS) for number in keys if keep_out]
        for number, error in refused:
            inner += [(BPF_JEQ_K, 0, 1, number), (BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | error)]
        inner.append((BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW))
        code += [(BPF_LD_W_ABS, 0, 0, ARCH), (BPF_JEQ_K, 0, len(inner), arch), *inner]
    code.append((BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def main():
    """Confine this process, then become the script."""
    confine(marshal.loads(bytes.fromhex(sys.argv[1])))
    script = sys.argv[2]
    sys.argv = sys.argv[2:]
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    # The loader takes what the harness has compiled, where that was for a Python like this one, and else compiles.
    code = SourceFileLoader("__main__", script).get_code("__main__")
    exec(code, {"__name__": "__main__", "__file__": script, "__builtins__": __builtins__})


if __name__ == "__main__":
    main()
