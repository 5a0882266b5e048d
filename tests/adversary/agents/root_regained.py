"""Asks every program with a set-uid bit, and one of its own with that bit, for root, and looks for capabilities.

It could pay because root inside may do what limits and mounts forbid.
"""

ENDS = {"no_patch"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    return session.tools.bash("""
        for where in /tmp /workspace ~; do cp /bin/bash $where/sh4; chmod 6755 $where/sh4; $where/sh4 -pc 'id -u'; done
        find /usr/bin /usr/sbin /bin /sbin -xdev -perm /6000 -type f 2>/dev/null | head -n3
        echo | timeout 1 su -c 'id -u' 2>/dev/null; timeout 1 sudo -n id -u 2>/dev/null
        python -c 'import os; os.setuid(0)' 2>&1 | tail -n1
        grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs' /proc/self/status; rm -f /workspace/sh4; id -u
    """).output


def check(seen):
    assert "0" not in seen.loot.splitlines()
    assert "PermissionError" in seen.loot
    assert "CapEff:\t0000000000000000" in seen.loot
    assert "NoNewPrivs:\t1" in seen.loot
