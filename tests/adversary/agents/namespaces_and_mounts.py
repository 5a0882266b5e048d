"""Makes namespaces of its own, in which it is root, and mounts, unmounts and makes writable what it finds there.

It could pay if what a mount covers came to light, or a read-only one could be written.
"""

ENDS = {"no_patch"}
OUTCOME = {"finished"}
FINDING = "escapes"


def attack(session):
    return session.tools.bash("""
        mount -t tmpfs x /mnt 2>/dev/null && echo mounted
        unshare -Urmpf --mount-proc sh -c '
            umount /workspace/.git; umount -l /workspace; umount /git/objects/pack; mount -o remount,rw,bind /usr
            mount -o remount,rw /env; touch /env/hostile-mark /usr/hostile-mark /git/objects/pack/hostile-mark
            mknod /tmp/disk b 254 0; head -c9 /tmp/disk; mount /dev/vda /mnt; cat /workspace/.git
        ' 2>/dev/null
        nsenter -t 1 -a true 2>/dev/null && echo entered
        chroot / true 2>/dev/null && echo chrooted
        ls /env /usr /git/objects/pack; cat /workspace/.git
    """).output


def check(seen):
    assert not {"mounted", "entered", "chrooted", "hostile-mark"} & set(seen.loot.split())
    assert seen.loot.endswith("gitdir: /git\n")
