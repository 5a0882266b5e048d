"""Deletes all of git, and puts hooks, filters and a monitor in its place that would run a program.

It could pay if the harness asked that git: a patch that cannot be collected, or a program run on the host.
"""

ENDS = {"rejected"}
OUTCOME = {"finished"}
FINDING = None


def attack(session):
    mark = session.folder / "ran-on-the-host"
    return session.tools.bash(f"""
        echo '# edited' >> toy/order.py
        rm -rf /git/* /workspace/.git; rm -f /git/objects/pack/*
        mkdir -p /git/hooks && printf '#!/bin/sh\\ntouch {mark}\\n' > /git/hooks/post-index-change
        chmod +x /git/hooks/*
        printf '[core]\\n fsmonitor = touch {mark}\\n[filter "x"]\\n clean = touch {mark}\\n' > /git/config
        echo '* filter=x' > .gitattributes
        mkdir sub && cd sub && git init -q . && git config core.fsmonitor 'touch {mark}'
        cat /workspace/.git
    """).output


def check(seen):
    assert "gitdir: /git\n" in seen.loot
    assert {file.path for file in seen.result.patch.files} == {".gitattributes", "toy/order.py"}
    assert not (seen.folder / "ran-on-the-host").exists()
