"""Bytecode for a tree that is measured, compiled by the harness and never by the code under test.

A folder in which a warm-up leaves its bytecode is one in which it can leave its results. So a tree is read-only when it
is measured, and what makes its imports fast is put there before.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from omniperf.sandbox.spec import Mount
from omniperf.sandbox.standing import StandingSandbox
from omniperf.workspace.lock import locked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from omniperf.measure.bench import Bench
    from omniperf.workspace.worktree import Workspace

_AT_ONCE = 500  # files: a command line has an end
# Runs in the sandbox, where a link that a patch planted leads nowhere. The first argument is a folder of bytecode to
# copy, for sources that are there; the others are sources to compile, whose times are then not looked at again.
_SCRIPT = """\
import os, py_compile, shutil, sys
kept, *sources = sys.argv[1:]
for folder, _, names in os.walk(kept):
    there = os.path.join(os.getcwd(), os.path.relpath(folder, kept))
    for name in names:
        if os.path.isfile(os.path.join(os.path.dirname(there), name.partition(".")[0] + ".py")):
            os.makedirs(there, exist_ok=True)
            shutil.copyfile(os.path.join(folder, name), os.path.join(there, name))
for source in sources:
    try:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(source, dfile=os.path.abspath(source), doraise=True, invalidation_mode=mode)
    except (OSError, py_compile.PyCompileError):
        pass
"""


def add_bytecode(bench: Bench, workspace: Workspace, imported: tuple[str, ...], changed: Iterable[str] = ()) -> None:
    """Put the bytecode of the modules that base imports beside their sources, and that of the files a patch changed.

    Base's is compiled once and kept in the cache. Code that cannot be compiled is left for the import to say so.
    """
    _run(bench, workspace, _of_base(bench, imported), [path for path in changed if path.endswith(".py")])


def _of_base(bench: Bench, imported: tuple[str, ...]) -> Path:
    key = hashlib.sha256(json.dumps([bench.seal.tree, bench.environment.key, imported]).encode()).hexdigest()[:20]
    folder = bench.settings.cache / "bytecode" / key
    with locked(folder.with_suffix(".lock")):
        if not (folder / "complete").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            with bench.tree("bytecode") as base:
                _run(bench, base, folder, list(imported))
                for name in map(PurePosixPath, imported):
                    for made in (base.tree / name.parent / "__pycache__").glob(f"{name.stem}.*.pyc"):
                        kept = folder / made.relative_to(base.tree)
                        kept.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(made, kept)
            (folder / "complete").touch()
    return folder


def _run(bench: Bench, workspace: Workspace, kept: Path, sources: list[str]) -> None:
    spec = bench.spec(workspace)
    spec = replace(spec, mounts=(*spec.mounts, Mount(kept, "/omniperf/bytecode")))
    place = bench.backend.where(spec, "/omniperf/bytecode")
    with StandingSandbox(bench.backend, spec) as sandbox:
        for at in range(0, len(sources) or 1, _AT_ONCE):
            files = shlex.join(f"./{source}" for source in sources[at : at + _AT_ONCE])
            sandbox.run(f"python -I -c {shlex.quote(_SCRIPT)} {place} {files}", bench.task.limits.command_seconds)
