"""Arms: a tree made into a sandbox in which its workload runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.measure.clock import Arm
from omniperf.sandbox.spec import Allowance, Mount, Spec

if TYPE_CHECKING:
    from omniperf.measure.lanes import Lane
    from omniperf.sandbox.environment import Environment
    from omniperf.sandbox.spec import Backend
    from omniperf.tasks.schema import Task
    from omniperf.workspace.worktree import Workspace


# Every byte that malloc hands out is 0x7F (it writes the complement of what it is told): large as an integer, huge as a
# number. Without its caches of freed blocks, which it leaves as they are, and without Python's own.
POISONED = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.perturb=128", "PYTHONMALLOC": "malloc"}

# Where compilers of kernels keep their products between processes.
_COMPILED = {
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "CUDA_CACHE_PATH": "cuda",
}


def allowance(task: Task) -> Allowance:
    """What the task's resources allow one sandbox."""
    return Allowance(memory=int(task.resources.memory_gib * 2**30), cpus=task.resources.cpus)


def tree_spec(
    task: Task, environment: Environment, workspace: Workspace, *, writable: bool, extra: tuple[Mount, ...] = ()
) -> Spec:
    """The sandbox that shows a tree at /workspace and the task's environment at /env.

    The tree's own `.git`, which names a folder of the host, is covered in every sandbox.
    """
    tree, git = Mount(workspace.tree, "/workspace", writable), Mount(workspace.gitlink, "/workspace/.git")
    return Spec(
        mounts=(tree, git, Mount(environment.venv, "/env"), *extra),
        interpreter=environment.interpreter.prefix,
        env=environment.variables,
        allowance=allowance(task),
        gpu=task.resources.gpus > 0,
        host_packages=environment.host_packages,
    )


def python_path(task: Task, backend: Backend, spec: Spec) -> str:
    """PYTHONPATH for commands that the harness or the agent runs in the tree."""
    workspace = Path(backend.where(spec, "/workspace"))
    return os.pathsep.join(str(workspace / path) for path in task.environment.pythonpath)


def make_arm(
    name: str,
    task: Task,
    environment: Environment,
    backend: Backend,
    workspace: Workspace,
    caches: Path,
    *,
    export: bool = False,
) -> Arm:
    """The arm of a tree. Nothing in it can be written: what one process leaves, the next must not find.

    The exception is what kernels compile to on a GPU, which goes to a folder of the tree's own under `caches`, writable
    until `sealed` closes it: what the warm-up compiled is what the timed samples load.
    """
    assert task.workload is not None
    named = {f"/omniperf/{name}": name for name in task.workload.files}
    if task.workload.file is not None:
        named["/omniperf/workload.py"] = task.workload.file
    shown = tuple(Mount(task.folder / name, target) for target, name in named.items())
    spec = tree_spec(task, environment, workspace, writable=False, extra=shown)
    spec = replace(spec, env={**spec.env, "PYTHONDONTWRITEBYTECODE": "1"})
    if not spec.gpu:
        return Arm(name, spec, export)
    compiled = caches / f"compiled-{name}"
    compiled.mkdir(parents=True, exist_ok=True)
    compiled.chmod(0o777)
    spec = replace(spec, mounts=(*spec.mounts, Mount(compiled, "/compiled", writable=True)))
    kept = {name: f"{backend.where(spec, '/compiled')}/{folder}" for name, folder in _COMPILED.items()}
    return Arm(name, replace(spec, env={**spec.env, **kept}), export)


def on_lane(arm: Arm, lane: Lane) -> Arm:
    """The arm on a lane's cores and GPUs."""
    env = {**arm.spec.env, "CUDA_VISIBLE_DEVICES": ",".join(lane.gpus)} if lane.gpus else arm.spec.env
    return replace(arm, spec=replace(arm.spec, cores=lane.cores, env=env))


def poisoned(arm: Arm) -> Arm:
    """The arm with memory in which what was never written is neither zero nor what was there before.

    On glibc all that malloc gives, to whatever extension, is 0x7F; what numpy and torch leave unwritten is NaN and the
    largest integers, on GPUs too.
    """
    return replace(arm, poison=True, spec=replace(arm.spec, env={**arm.spec.env, **POISONED}))


def sealed(arm: Arm, lane: Lane) -> Arm:
    """The arm as it is timed: on a lane, and with nothing writable that outlives a sample."""
    mounts = tuple(replace(mount, writable=False) for mount in arm.spec.mounts)
    return on_lane(replace(arm, spec=replace(arm.spec, mounts=mounts)), lane)
