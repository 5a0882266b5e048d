"""The Python environment of a task: made once per (interpreter, base, set-up), then shared and never changed.

Inside every sandbox it is at /env and the tree at /workspace, so what set-up wrote (scripts, editable installs) stays
valid in every attempt. An agent may change what it sees there: that goes to a layer of the attempt's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from omniperf.errors import InfraError, UsageError
from omniperf.results.redact import keyless
from omniperf.sandbox.spec import Allowance, Mount, Spec
from omniperf.sandbox.standing import StandingSandbox
from omniperf.workspace.lock import locked
from omniperf.workspace.plumbing import GitError, git
from omniperf.workspace.worktree import provide, remove_tree, writable_inside

if TYPE_CHECKING:
    from omniperf.results.events import Emit
    from omniperf.sandbox.spec import Backend
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from omniperf.workspace.seal import Seal

_FORMAT = "2"  # part of the key: raise it when what an environment holds changes
_SETUP_SECONDS = 1800.0
# What pip and friends need to reach their index. Nothing else of the harness's environment goes in, no key above all.
_NETWORK_VARIABLES = re.compile(
    r"(PIP_.*|UV_(?!PUBLISH_).*|SSL_CERT_.*|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(https?|no|all)_proxy)", re.IGNORECASE
)


@dataclass(frozen=True)
class Interpreter:
    """A Python of the host: its prefix, which is mounted at its own place, and its version.

    `packages` are the versions of the host's packages that a task asked for, `folders` where they are installed.
    """

    executable: Path
    prefix: Path
    version: str
    packages: dict[str, str] = field(default_factory=dict)
    folders: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Environment:
    """A finished environment: `venv` is mounted at /env; `installed` is what set-up left in the tree, or None."""

    venv: Path
    installed: Path | None
    interpreter: Interpreter
    variables: dict[str, str]
    key: str

    @property
    def host_packages(self) -> tuple[Path, ...]:
        """Folders of the host's own packages that sandboxes show."""
        return self.interpreter.folders


_PROBE = """\
import importlib.metadata, importlib.util, json, os, sys
packages, folders = {}, set()
for name in sys.argv[1:]:
    found = importlib.util.find_spec(name)
    if found is not None and found.origin:
        folders.add(os.path.dirname(os.path.dirname(os.path.realpath(found.origin))))
        try:
            packages[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            packages[name] = ""
version = "%d.%d.%d" % sys.version_info[:3]
print(json.dumps([sys.base_prefix, version, packages, sorted(folders)]))
"""


@lru_cache
def _probe(executable: str, packages: tuple[str, ...]) -> Interpreter | None:
    argv = (executable, "-I", "-c", _PROBE, *packages)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=keyless())
    if done.returncode != 0:
        return None
    prefix, version, found, folders = json.loads(done.stdout)
    name = f"python{version.rpartition('.')[0]}"
    return Interpreter(Path(prefix) / "bin" / name, Path(prefix), version, found, tuple(map(Path, folders)))


def find_interpreter(specifier: str, packages: tuple[str, ...] = ()) -> Interpreter:
    """The harness's own Python if it fits, else the first on PATH that does: by version and by what it has installed.

    Raises UsageError for a wrong specifier or where there is none of that version, InfraError where none has the
    packages.
    """
    try:
        wanted = SpecifierSet(specifier)
    except InvalidSpecifier:
        raise UsageError(
            f"environment.python {specifier!r} is not a version specifier.", "Write it like '>=3.11'."
        ) from None
    names = (sys.executable, *(["python3"] if packages else []), *(f"python3.{minor}" for minor in range(20, 7, -1)))
    lacking: set[str] = set()
    for name in names:
        program = shutil.which(name)
        found = _probe(program, packages) if program else None
        if found and found.executable.exists() and wanted.contains(found.version):
            if missing := set(packages) - set(found.packages):
                lacking = lacking or missing
                continue
            return found
    if lacking:
        raise InfraError(
            "missing_dep",
            f"No Python {specifier} on PATH has {', '.join(sorted(lacking))}, which the task takes from the host.",
            "Install it there, or put the Python that has it first on PATH.",
        )
    raise UsageError(
        f"No Python {specifier} was found on PATH.", "Install one, or widen `environment.python` of the task."
    )


def prepare(task: Task, seal: Seal, version: str, settings: Settings, backend: Backend, emit: Emit) -> Environment:
    """Return the task's environment, running its set-up on first use. Raises UsageError when set-up fails."""
    from omniperf.results.events import Event

    interpreter = find_interpreter(task.environment.python, task.environment.host_packages)
    setup = list(task.environment.setup)
    ours = [_FORMAT, str(interpreter.executable), interpreter.version, "" if backend.isolated else backend.name]
    ours += [f"{name}=={version}" for name, version in sorted(interpreter.packages.items())]
    content = [*ours, seal.tree, setup, task.environment.env] if setup else ours
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:20]
    folder = settings.cache / "environments" / key
    with locked(folder.with_suffix(".lock")):
        if not (folder / "complete").is_file():
            if setup:
                emit(Event("preflight", f"setting up {task.id} (once): {'; '.join(setup)}", {}))
            remove_tree(folder)
            _make(task, seal, version, folder, interpreter, backend)
            if os.getuid() == 0:  # each sandbox has a uid of its own, and an agent's may change its view of all this
                subprocess.run(("chmod", "-R", "a+rwX", "--", str(folder / "venv")), check=True, env=keyless())
            (folder / "complete").touch()
            folder.chmod(0o700)  # what is inside was writable for the sandbox; nobody else may reach it
    installed = folder / "installed" if (folder / "installed").is_dir() else None
    return Environment(folder / "venv", installed, interpreter, _variables(task, version), key)


def _variables(task: Task, version: str) -> dict[str, str]:
    """The task's own variables, and a version for packages that would ask a git history that is not there."""
    found = re.search(r"(\d+(?:\.\d+)+(?:(?:a|b|rc)\d+)?)(?:-(\d+)-g[0-9a-f]+)?$", version)
    scm = {}
    if found:
        scm["SETUPTOOLS_SCM_PRETEND_VERSION"] = found[1] + (f".post{found[2]}" if found[2] else "")
    return {**scm, **task.environment.env}


def _make(task: Task, seal: Seal, version: str, folder: Path, interpreter: Interpreter, backend: Backend) -> None:
    with writable_inside():  # set-up runs as the sandbox's unprivileged uid
        folder.mkdir(parents=True)
        venv = (str(interpreter.executable), "-I", "-m", "venv", "--without-pip", "--symlinks", str(folder / "venv"))
        done = subprocess.run(venv, capture_output=True, text=True, check=False, env=keyless())
    if done.returncode != 0:
        raise InfraError("missing_dep", f"{interpreter.executable} cannot make a venv.", "Install its venv module.")
    for site in (folder / "venv" / "lib").glob("python3*/site-packages") if interpreter.folders else ():
        (site / "host.pth").write_text("".join(f"{path}\n" for path in interpreter.folders))
    if not task.environment.setup:
        return
    workspace = provide(seal, folder / f"setup-{os.getpid()}", agent=False)
    try:
        mounts = [
            Mount(workspace.tree, "/workspace", True),
            Mount(workspace.gitlink, "/workspace/.git"),
            Mount(folder / "venv", "/env", True),
        ]
        pip_config = Path("~/.config/pip/pip.conf").expanduser()
        if backend.isolated and pip_config.is_file():
            mounts.append(Mount(pip_config, "/home/agent/.config/pip/pip.conf"))
        network = {name: value for name, value in os.environ.items() if _NETWORK_VARIABLES.fullmatch(name)}
        spec = Spec(
            mounts=tuple(mounts),
            interpreter=interpreter.prefix,
            env={**network, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **_variables(task, version)},
            allowance=Allowance(memory=16 * 2**30, processes=4096, disk=64 * 2**30),
            network=True,
            host_packages=interpreter.folders,
        )
        with StandingSandbox(backend, spec) as sandbox:
            for command in ("python -m ensurepip --upgrade --default-pip", *task.environment.setup):
                done_ = sandbox.run(command, _SETUP_SECONDS)
                if not done_.ok:
                    raise UsageError(
                        f"Task {task.id}: the set-up command `{command}` {done_.ending}.",
                        "Correct `environment.setup`, or check the network.",
                        output=done_.output,
                    )
        _keep_products(task, workspace.tree, seal.git_dir / "worktrees" / workspace.root.name, folder / "installed")
    finally:
        workspace.remove()


def _keep_products(task: Task, tree: Path, view: Path, installed: Path) -> None:
    """Keep what set-up made in the tree (egg-info, extensions); refuse a set-up that edits the repository's files."""
    try:
        git("diff-files", "--quiet", git_dir=view, work_tree=tree)
    except GitError:
        changed = git("diff-files", "--name-only", git_dir=view, work_tree=tree).decode(errors="replace").split("\n")[0]
        raise UsageError(
            f"Task {task.id}: set-up changes {changed}, a file of the repository.",
            "Set-up may add files, not edit them: base must stay base.",
        ) from None
    listing = git("ls-files", "-z", "--others", git_dir=view, work_tree=tree).decode("utf-8", "surrogateescape")
    with writable_inside():
        for name in filter(None, listing.split("\0")):
            if "__pycache__" in name or name.endswith("/") or name == ".git":
                continue
            target = installed / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, target, follow_symlinks=False)
