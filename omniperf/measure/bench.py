"""A task made ready on this host: its seal, its environment, its sandbox, and the trees that are measured."""

from __future__ import annotations

import secrets
import shlex
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omniperf.errors import UsageError
from omniperf.measure.arms import python_path, tree_spec
from omniperf.measure.host import host_facts
from omniperf.measure.lanes import beside_lanes, find_lanes
from omniperf.results.certificate import FOLDER
from omniperf.results.events import Event
from omniperf.sandbox.choose import choose_backend
from omniperf.sandbox.environment import Environment, prepare
from omniperf.sandbox.spec import FINISH, Mount
from omniperf.sandbox.standing import Completed, StandingSandbox
from omniperf.tasks.load import workload_kind
from omniperf.workspace.plumbing import git
from omniperf.workspace.seal import Seal, seal
from omniperf.workspace.source import Source, human_patch, resolve_source
from omniperf.workspace.worktree import Workspace, provide

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.results.events import Emit
    from omniperf.sandbox.spec import Backend, Spec
    from omniperf.settings import Settings
    from omniperf.tasks.load import Kind
    from omniperf.tasks.schema import Task


@dataclass(frozen=True)
class Bench:
    """Everything that running and measuring a task needs."""

    task: Task
    kind: Kind
    settings: Settings
    source: Source
    seal: Seal
    environment: Environment
    backend: Backend

    @property
    def tree_seen(self) -> str:
        """Where an agent's commands see the tree: without a sandbox, in the folder in which they start."""
        return "/workspace" if self.backend.isolated else "."

    @contextmanager
    def tree(self, name: str, patch: bytes = b"") -> Iterator[Workspace]:
        """A fresh worktree at base with the patch applied, gone when the block ends. Raises OmniPerfError."""
        workspace = self.workspace(name, agent=False)
        try:
            if patch.strip():
                workspace.apply(patch)
            yield workspace
        finally:
            workspace.remove()

    def workspace(self, name: str, *, agent: bool = True) -> Workspace:
        """A fresh worktree under the worktrees folder; the caller removes it."""
        root = self.settings.worktrees / f"{self.task.id}-{name}-{secrets.token_hex(4)}"
        return provide(self.seal, root.resolve(), agent=agent, installed=self.environment.installed)

    def human_patch(self) -> bytes | None:
        """The reference patch, or None."""
        return human_patch(self.task, self.source)

    def spec(self, workspace: Workspace, *, agent: bool = False) -> Spec:
        """The sandbox for commands in a tree that they may change.

        They are kept off the cores of the lanes of tasks like this one. With `agent` it has the agent's own git, and an
        environment that the agent may change and nobody else sees.
        """
        extra = (
            Mount(workspace.git_dir, "/git", True),
            Mount(self.seal.pack, "/git/objects/pack"),
            Mount(FINISH, "/omniperf/bin/finish"),
        )
        spec = tree_spec(self.task, self.environment, workspace, writable=True, extra=extra if agent else ())
        if agent:
            private = Mount(self.environment.venv, "/env", True, workspace.root / "env")
            spec = replace(spec, mounts=tuple(private if one.target == "/env" else one for one in spec.mounts))
        variables = {
            **spec.env,
            "PYTHONPATH": python_path(self.task, self.backend, spec),
            # Compiled Python outside the tree: nothing stale is left in it for a later step to load.
            "PYTHONPYCACHEPREFIX": "/tmp/pycache",  # noqa: S108 - the sandbox's own
        }
        return replace(spec, env=variables, beside=beside_lanes(self.task.resources.cpus))

    def commands(self, workspace: Workspace, commands: tuple[str, ...]) -> Completed | None:
        """Run commands in a tree, in a sandbox of their own; the first that fails, or None."""
        if not commands:
            return None
        with StandingSandbox(self.backend, self.spec(workspace)) as sandbox:
            for command in commands:
                done = sandbox.run(command, self.task.limits.command_seconds)
                if not done.ok:
                    return done
        return None

    def build(self, workspace: Workspace, changed: tuple[str, ...] = ()) -> Completed | None:
        """Compile the changed Python files and run the task's build; the first command that fails, or None."""
        python = [path for path in changed if path.endswith(".py") and (workspace.tree / path).is_file()]
        check = "import sys\nfor f in sys.argv[1:]: compile(open(f, 'rb').read(), f, 'exec')"
        compiled = (f"python -I -c {shlex.quote(check)} {shlex.join(python)}",) if python else ()
        return self.commands(workspace, (*compiled, *self.task.environment.build))

    def environment_facts(self) -> dict[str, Any]:
        """What this host is, and what the task ran on there: goes into every result as `environment`."""
        interpreter = self.environment.interpreter
        return {
            **host_facts(),
            "task_python": interpreter.version,
            "task_environment": self.environment.key,
            "task_packages": interpreter.packages,
        }


def open_bench(task: Task, settings: Settings, emit: Emit, *, may_fall_back: bool = False) -> Bench:
    """Make a task ready: find its repository, seal base, prepare its environment.

    Raises UsageError for a task that cannot run, InfraError for a host that cannot run it.
    """
    if task.prompt_only or task.workload is None:
        raise UsageError(
            f"Task {task.id} is prompt-only: it has no repo and no workload.", "It can be rendered, but not run."
        )
    kind = workload_kind(task)
    if kind == "script" and any(metric.name == "peak_memory" for metric in task.metrics):
        raise UsageError(
            f"Task {task.id}: peak_memory is measured for workloads of the kind module.", "Write setup and run."
        )
    if kind != "module" and task.resources.gpus:
        raise UsageError(f"Task {task.id}: on a GPU a workload is a module.", "Write setup and run.")
    find_lanes(task.resources)  # a host that cannot measure it is found out before anything is made
    backend = choose_backend(settings.sandbox, settings.cgroup, may_fall_back=may_fall_back)
    if kind == "service" and not backend.nests:
        raise UsageError(
            f"Task {task.id}: only in bubblewrap is a load generator kept from the server it measures.",
            "Use `--sandbox bubblewrap`.",
        )
    source = resolve_source(task, settings)
    if source.uncommitted:
        said = f"{source.label} has changes that are not committed; base is its last commit, without them"
        emit(Event("preflight", f"{task.id}: {said}", {}))
    sealed = seal(source, _omitted(task, source), settings.cache)
    environment = prepare(task, sealed, source.version, settings, backend, emit)
    return Bench(task, kind, settings, source, sealed, environment, backend)


def _omitted(task: Task, source: Source) -> tuple[str, ...]:
    """What the task leaves out of its tree, and its certificates, should they lie there: no agent is shown them."""
    repo, certificates = task.repo, task.folder / FOLDER
    assert repo is not None
    if repo.path and certificates.is_relative_to(top := (task.folder / repo.path).resolve()):
        path = certificates.relative_to(top).as_posix()
        if git("ls-tree", source.base, "--", path, git_dir=source.git_dir):
            return (*repo.omit, path)
    return repo.omit


def in_tree(bench: Bench, path: str) -> str | None:
    """A path inside the sandbox as one relative to the tree; None for anything else."""
    root = Path("/workspace") if bench.backend.isolated else None
    pure = Path(path)
    if root is not None:
        return str(pure.relative_to(root)) if pure.is_relative_to(root) else None
    parts = pure.parts
    # Without a sandbox the tree is under the worktrees folder, at NAME/tree.
    worktrees = bench.settings.worktrees.resolve()
    if not pure.is_relative_to(worktrees):
        return None
    return str(Path(*parts[len(worktrees.parts) + 2 :]))
