"""Workspaces: the sealed worktree an attempt works in, made fresh and never reused.

Three git folders keep the agent away from everything: the harness's linked worktree of the seal (outside, never shown),
the agent's own `/git` (inside, one commit, its pack bound read-only), and a fresh one made to collect the patch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from omniperf.errors import InfraError, OmniPerfError
from omniperf.results.redact import keyless
from omniperf.workspace.plumbing import EXACT_BYTES, GitError, git

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from omniperf.workspace.patch import Collected
    from omniperf.workspace.seal import Seal

# Never part of a patch: the agents' scratch folder, a diff an agent wrote by itself, and what tools generate.
NOT_COLLECTED = """\
/.bench_scratch/
/model_patch.diff
__pycache__/
*.py[cod]
*.egg-info/
.eggs/
.pytest_cache/
.mypy_cache/
.ruff_cache/
.hypothesis/
.benchmarks/
.coverage
.DS_Store
"""

_AGENT_CONFIG = """\
[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tworktree = /workspace
\tlogallrefupdates = true
[gc]
\tauto = 0
[user]
\tname = agent
\temail = agent@localhost
[advice]
\tdetachedHead = false
"""


@dataclass(frozen=True)
class Workspace:
    """One worktree: `tree` is what the agent edits, `git_dir` its own git folder, `index` the pristine index."""

    root: Path
    seal: Seal
    installed: tuple[str, ...] = field(default=())
    collected: dict[bytes, Collected] = field(default_factory=dict, compare=False)
    """The last patch that was collected, by what the tree was then."""
    patched: bool = False  # before anybody worked in it

    @property
    def tree(self) -> Path:
        """The worktree on the host."""
        return self.root / "tree"

    @property
    def git_dir(self) -> Path:
        """The agent's git folder on the host (`/git` inside the sandbox)."""
        return self.root / "git"

    @property
    def gitlink(self) -> Path:
        """The file bound over the tree's `.git` inside the sandbox."""
        return self.root / "gitlink"

    @property
    def index(self) -> Path:
        """The index as it was when the tree was checked out."""
        return self.root / "index"

    def apply(self, patch: bytes) -> None:
        """Apply a diff to the tree, whole or not at all. Raises OmniPerfError; InfraError for a full disk."""
        try:
            git(
                "apply", "--whitespace=nowarn", "-",
                work_tree=self.tree, git_dir=self._seal_view(), stdin=patch, umask=_umask(),
            )  # fmt: skip
        except GitError as error:
            if "unable to write" in error.stderr or "No space left" in error.stderr:
                said = f"A patch could not be applied in {self.tree}: {_first_line(error)}."
                raise InfraError("disk", said, "Check the disk's space.") from error
            raise OmniPerfError(f"The patch does not apply to {self.seal.commit[:12]}: {_first_line(error)}.") from None

    def holding(self, patch: bytes) -> Workspace:
        """Apply a diff to begin with. Raises OmniPerfError."""
        self.apply(patch)
        return replace(self, patched=True)

    def edited(self) -> bool:
        """Whether a file of base is another one now. Files that are new do not count."""
        try:
            # To look inside a submodule would start another git there, as the agent has configured it.
            how = ("--quiet", "--ignore-submodules=dirty")
            git("diff-index", *how, self.seal.tree, git_dir=self._seal_view(), work_tree=self.tree)
        except GitError:
            return True
        return False

    def _seal_view(self) -> Path:
        return self.seal.git_dir / "worktrees" / self.root.name

    def remove(self) -> None:
        """Delete the workspace, the seal's record of it, and the folder above if nothing else is in it."""
        remove_tree(self.root)
        remove_tree(self._seal_view())
        with suppress(OSError):
            self.root.parent.rmdir()


def provide(seal: Seal, root: Path, *, agent: bool = True, installed: Path | None = None) -> Workspace:
    """Check base out under `root` (a folder that does not exist yet) and prove that it is base.

    `agent` also makes the agent's git folder. `installed` is a folder of files that set-up left in the tree (build
    products, egg-info); they are copied in. Raises InfraError (disk) or OmniPerfError where the tree is not base.
    """
    tree, view = root / "tree", seal.git_dir / "worktrees" / root.name
    _make_folder(root)
    try:
        _link(seal, tree, view)
        git("read-tree", "--reset", "-u", seal.commit, git_dir=view, work_tree=tree, umask=_umask())
        workspace = Workspace(root, seal, _install(installed, tree))
        shutil.copy2(view / "index", workspace.index)
        _prove(workspace)
        workspace.gitlink.write_text("gitdir: /git\n")
        if agent:
            _make_agent_git(workspace)
    except BaseException as error:
        remove_tree(root)
        remove_tree(view)
        if not isinstance(error, OSError | GitError):
            raise
        raise InfraError("disk", f"No worktree could be made at {root}: {error}.", "Check the disk's space.") from error
    return workspace


def _make_folder(root: Path) -> None:
    """Make a folder that does not exist yet, even while another attempt removes the one above, which it left empty."""
    while True:
        root.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            root.mkdir(mode=0o700)
            return


def _umask() -> int:
    return 0 if os.getuid() == 0 else 0o022


@contextmanager
def writable_inside() -> Iterator[None]:
    """Make files that the sandbox can write.

    Started as root, the sandbox drops to an unprivileged uid. World-writable files in a folder that only root can enter
    cost nothing, where a recursive chown would also make every entry of the index stale.
    """
    before = os.umask(_umask())
    try:
        yield
    finally:
        os.umask(before)


def _link(seal: Seal, tree: Path, view: Path) -> None:
    """Make an empty worktree of the seal as `git worktree add --detach --lock` would, which takes three processes."""
    with writable_inside():
        tree.mkdir()
        (tree / ".git").write_text(f"gitdir: {view}\n")
    view.mkdir(parents=True)
    about = {"HEAD": seal.commit, "commondir": "../..", "gitdir": str(tree / ".git"), "locked": "in use"}
    for name, text in about.items():
        (view / name).write_text(f"{text}\n")


def _prove(workspace: Workspace) -> None:
    """Compare every file, through the index, with base's tree."""
    if workspace.edited():
        raise OmniPerfError(
            f"The worktree {workspace.tree} is not base {workspace.seal.tree[:12]}.",
            "Delete the seal in the cache and try again; if it happens again, check the disk.",
        )


def _make_agent_git(workspace: Workspace) -> None:
    folder, seal = workspace.git_dir, workspace.seal
    with writable_inside():
        for sub in ("objects/pack", "refs", "info"):  # git makes the others when it needs them
            (folder / sub).mkdir(parents=True)
        (folder / "HEAD").write_text(f"{seal.commit}\n")
        (folder / "config").write_text(_AGENT_CONFIG)
        (folder / "info" / "attributes").write_text(EXACT_BYTES)
        (folder / "info" / "exclude").write_text(NOT_COLLECTED + _rooted(workspace.installed))
        shallow = seal.git_dir / "shallow"
        if shallow.is_file():
            (folder / "shallow").write_bytes(shallow.read_bytes())
        (folder / "index").write_bytes(workspace.index.read_bytes())


def _install(installed: Path | None, tree: Path) -> tuple[str, ...]:
    """Copy set-up's files into the tree; return their paths."""
    if installed is None or not installed.is_dir():
        return ()
    shutil.copytree(installed, tree, symlinks=True, dirs_exist_ok=True)
    return tuple(str(path.relative_to(installed)) for path in sorted(installed.rglob("*")) if not path.is_dir())


def _rooted(paths: Iterable[str]) -> str:
    """Exclude lines for exact paths."""
    return "".join("/" + "".join("\\" + c if c in "*?[]\\!# " else c for c in path) + "\n" for path in paths)


def _first_line(error: GitError) -> str:
    said = error.stderr.strip().splitlines()[0].removeprefix("error: ") if error.stderr.strip() else "git said nothing"
    return "the file holds no diff" if "No valid patches" in said else said


def remove_tree(folder: Path) -> None:
    """Delete a folder, however deep it is and whatever modes were set inside it. Raises OSError where that fails."""
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        _remove_hard(folder)


def _remove_hard(folder: Path) -> None:
    """Delete what has closed folders in it, or too many in each other. Raises OSError where that fails."""
    if os.getuid() != 0:  # root needs no permission
        subprocess.run(("chmod", "-R", "u+rwX", "--", str(folder)), capture_output=True, check=False, env=keyless())
    done = subprocess.run(("rm", "-rf", "--", str(folder)), capture_output=True, text=True, check=False, env=keyless())
    if done.returncode != 0:
        raise OSError(f"{folder} could not be deleted: {done.stderr.strip()[:200]}")
