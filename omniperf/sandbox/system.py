"""What of the host's own system a sandbox shows, and what it hides."""

from __future__ import annotations

import contextlib
from functools import lru_cache
from pathlib import Path

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt")
_PACKAGES = tuple(f"lib{bits}/python3*/{kind}-packages" for bits in ("", "64") for kind in ("site", "dist"))
_GPU_NODES = ("nvidia*", "nvidia-caps", "nvidia-uvm*")


def system_folders(*, network: bool) -> tuple[str, ...]:
    """The folders that are shown, where the host has them; /opt only to a set-up, which has a network too."""
    return _SYSTEM if network else _SYSTEM[:-1]


def in_folders(prefix: Path, system: tuple[str, ...]) -> bool:
    """Whether an interpreter is seen at its place already."""
    return any(prefix.is_relative_to(path) for path in system)


def gpu_nodes() -> list[str]:
    """The device nodes of NVIDIA's driver."""
    return sorted({str(node) for glob in _GPU_NODES for node in Path("/dev").glob(glob)})


@lru_cache
def host_packages(prefix: Path) -> tuple[str, ...]:
    """Folders of packages that the host has installed: a later release of the task's own library may be among them.

    Also those of the virtual environments that conda and pyenv keep below an interpreter, and conda's own store.
    """
    globs = (*(place + folder for place in ("", "local/", "envs/*/") for folder in _PACKAGES), "pkgs")
    found = set()
    for top in (prefix, Path("/usr"), Path("/usr/local")):
        for path in (path for glob in globs for path in top.glob(glob) if path.is_dir()):
            with contextlib.suppress(ValueError):  # a link that leads elsewhere, where nothing is mounted
                found.add(str(top / path.resolve().relative_to(top.resolve())))
    return tuple(sorted(found))
