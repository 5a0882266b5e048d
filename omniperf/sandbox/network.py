"""Make a network namespace, or join one and become another program. Standard library only, on the harness's Python.

usage: python -I -S network.py make                       (says one byte when it is there, ends when its input closes)
       python -I -S network.py join DESCRIPTOR,... CGROUP PROGRAM [ARGUMENT ...]     (either of them may be empty)
"""

import ctypes
import os
import sys

NEWUSER, NEWNET = 0x10000000, 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def check(returned):
    """Raise OSError where a call of the C library failed."""
    if returned != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def make(libc):
    """Unshare the network, owned by a user namespace unless this is root, and bring loopback up."""
    import fcntl
    import socket
    import struct

    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(NEWNET if uid == 0 else NEWUSER | NEWNET))
    if uid != 0:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", asked)[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))
    os.write(1, b"!")
    os.read(0, 1)


def main():
    """Do what the command line says."""
    libc = ctypes.CDLL(None, use_errno=True)
    if sys.argv[1] == "make":
        make(libc)
        return
    if sys.argv[3]:
        with open(f"{sys.argv[3]}/cgroup.procs", "w") as group:
            group.write("0")  # this process
    for descriptor in map(
        int, filter(None, sys.argv[2].split(","))
    ):  # the user namespace first: it gives the right to the other
        check(libc.setns(descriptor, 0))
        os.close(descriptor)  # nothing inside may find it
    os.execv(sys.argv[4], ["bwrap", *sys.argv[5:]])


if __name__ == "__main__":
    main()
