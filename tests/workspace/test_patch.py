"""The patch is everything between base and the tree's final state, whatever the agent did to get there."""

import mmap
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.measure.bench import Bench
from omniperf.workspace import patch as patch_module
from omniperf.workspace.patch import NotCollectableError, Patch, PatchDoesNotApplyError, collect, parse
from omniperf.workspace.seal import seal
from omniperf.workspace.worktree import Workspace
from tests.conftest import git

BASE_FILES = {
    "data.bin": "\x00\x01binary\x00",
    "crlf.txt": "one\r\ntwo\r\n",
    ".gitattributes": "*.txt text eol=lf\n*.py filter=planted\n",
    ".gitignore": "*.log\n",
    "old.py": "".join(f"line_{n} = {n}\n" for n in range(40)),
}


@pytest.fixture
def workspace(make_task: Callable[..., object], settings: object, bubblewrap: None) -> Workspace:
    from omniperf.measure.bench import open_bench
    from omniperf.results.events import ignore

    bench = open_bench(make_task(files=BASE_FILES), settings, ignore)  # type: ignore[arg-type]
    return bench.workspace("agent")


def by_hand(workspace: Workspace, patch: Patch, folder: Path) -> Path:
    """Clone base the ordinary way and apply the diff with plain `git apply`, as a user would."""
    clone = folder / "clone"
    git(folder, "clone", "-q", "--no-local", f"file://{workspace.seal.git_dir}", str(clone))
    git(clone, "fetch", "-q", "origin", workspace.seal.commit)
    git(clone, "-c", "core.autocrlf=false", "checkout", "-q", workspace.seal.commit)
    (folder / "model_patch.diff").write_bytes(patch.data)
    git(clone, "apply", "--whitespace=nowarn", str(folder / "model_patch.diff"))
    return clone


def edit(tree: Path) -> None:
    (tree / "toy/order.py").write_text("# edited\n")


def test_an_untouched_tree_is_an_empty_patch(workspace: Workspace) -> None:
    patch = collect(workspace)
    assert patch.data == b""
    assert patch.tree == workspace.seal.tree


def test_what_has_not_changed_is_not_collected_anew(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    file = workspace.tree / "toy/order.py"
    edit(workspace.tree)
    time.sleep(0.1)  # what is as young as the look at it is never believed
    first = collect(workspace)
    with monkeypatch.context() as patched:
        patched.setattr(patch_module, "git", lambda *_, **__: pytest.fail("git was asked"))
        assert collect(workspace) == first
        assert collect(workspace, final=True) == first
    about = file.stat()

    def rewrite() -> None:
        file.write_text("# EDITED\n")
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))

    changes: list[Callable[[], object]] = [
        rewrite, lambda: file.chmod(0o755), lambda: file.rename(file.with_name("moved.py")),
        lambda: (workspace.tree / "old.py").unlink(), lambda: (workspace.tree / "link").symlink_to("data.bin"),
    ]  # fmt: skip
    seen = {first.tree}
    for change in changes:
        change()
        time.sleep(0.1)
        collect(workspace)
        seen.add(collect(workspace).tree)
    assert len(seen) == 1 + len(changes)


@pytest.mark.parametrize("stage", ["unstaged", "staged", "committed", "stashed-then-applied"])
def test_a_change_counts_whatever_git_knows_of_it(workspace: Workspace, stage: str) -> None:
    view = workspace.git_dir  # the agent's git, driven from outside as the agent drives it inside
    environment = {**os.environ, "GIT_DIR": str(view), "GIT_WORK_TREE": str(workspace.tree),
                   "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(workspace.seal.git_dir / "objects")}  # fmt: skip

    def run(*arguments: str) -> None:
        subprocess.run(("git", *arguments), env=environment, cwd=workspace.tree, check=True, capture_output=True)

    edit(workspace.tree)
    if stage == "staged":
        run("add", "-A")
    elif stage == "committed":
        run("commit", "-q", "-a", "-m", "x")
    elif stage == "stashed-then-applied":
        run("stash", "-q")
        run("stash", "apply", "-q")
    assert [file.path for file in collect(workspace).files] == ["toy/order.py"]


def change_mode(tree: Path) -> None:
    (tree / "old.py").chmod(0o755)


def rename(tree: Path) -> None:
    (tree / "old.py").rename(tree / "new.py")


def delete(tree: Path) -> None:
    (tree / "README.md").unlink()


def binary(tree: Path) -> None:
    (tree / "data.bin").write_bytes(bytes(range(256)) * 4)


def not_utf8(tree: Path) -> None:
    (tree / "latin.py").write_bytes(b"name = '\xe9'\n")
    Path(os.fsdecode(os.fsencode(tree) + b"/caf\xe9.py")).write_text("x = 1\n")


def crlf(tree: Path) -> None:
    (tree / "crlf.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")


def symlink(tree: Path) -> None:
    (tree / "link").symlink_to("/etc/passwd")


def empty_file(tree: Path) -> None:
    (tree / "toy/empty.py").touch()


def no_last_newline(tree: Path) -> None:
    (tree / "toy/order.py").write_text("x = 1")


def file_becomes_folder(tree: Path) -> None:
    (tree / "README.md").unlink()
    (tree / "README.md").mkdir()
    (tree / "README.md" / "inside.txt").write_text("x\n")


def link_in_the_place_of_a_folder(tree: Path) -> None:
    (tree / "toy").rename(tree / "moved")
    (tree / "toy").symlink_to("moved")


def odd_names(tree: Path) -> None:
    for name in ('quote".py', "tab\t.py", "new\nline.py", " space .py", "-dash.py", "*.py"):
        (tree / name).write_text("x = 1\n")


CHANGES = [
    edit, change_mode, rename, delete, binary, not_utf8, crlf, symlink, empty_file, no_last_newline,
    file_becomes_folder, link_in_the_place_of_a_folder, odd_names,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_plain_git_apply_gives_the_same_tree(
    workspace: Workspace, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    change(workspace.tree)
    patch = collect(workspace)
    assert patch.data
    clone = by_hand(workspace, patch, tmp_path)
    for path in (path for path in clone.rglob("*") if ".git" not in path.parts):
        twin = workspace.tree / path.relative_to(clone)
        assert path.is_symlink() == twin.is_symlink()
        if path.is_symlink():
            assert path.readlink() == twin.readlink()
        elif path.is_file() and path.name != "crlf.txt":  # a clone smudges what .gitattributes names; ours never does
            assert path.read_bytes() == twin.read_bytes()
            assert bool(path.stat().st_mode & 0o100) == bool(twin.stat().st_mode & 0o100)
    assert parse(workspace.seal, patch.data).tree == patch.tree


def test_scratch_ignored_and_generated_files_are_left_out(workspace: Workspace) -> None:
    tree = workspace.tree
    for name in (
        ".bench_scratch/run.py",
        "model_patch.diff",
        "noise.log",
        "toy/__pycache__/order.pyc",
        "x.egg-info/PKG",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x\n")
    assert collect(workspace).files == ()


def test_nested_repositories_become_plain_files(workspace: Workspace) -> None:
    empty, real = workspace.tree / "empty", workspace.tree / "real"
    (empty / ".git").mkdir(parents=True)
    (empty / "a.py").write_text("a = 1\n")
    real.mkdir()
    git(real, "init", "-q")
    (real / "b.py").write_text("b = 1\n")
    git(real, "add", "-A")
    git(real, "commit", "-q", "-m", "x")
    assert sorted(file.path for file in collect(workspace).files) == ["empty/a.py", "real/b.py"]


def test_special_files_and_closed_folders_do_not_stop_the_collection(workspace: Workspace) -> None:
    os.mkfifo(workspace.tree / "fifo")
    closed = workspace.tree / "closed"
    closed.mkdir()
    (closed / "c.py").write_text("c = 1\n")
    closed.chmod(0)
    edit(workspace.tree)
    assert sorted(file.path for file in collect(workspace).files) == ["closed/c.py", "toy/order.py"]


GIT_BY_OTHER_NAMES = (".GIT", "git~1", "Git~1", ".git.", ".git ", ".git::$INDEX_ALLOCATION", "x\\.git", ".g\u200cit")


@pytest.mark.parametrize("name", GIT_BY_OTHER_NAMES)
def test_names_that_some_file_system_takes_for_git_are_left_out(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    for place in (workspace.tree / name, workspace.tree / "toy" / name):
        place.mkdir()
        (place / "config").write_text("x\n")
    (workspace.tree / ".github").mkdir()
    (workspace.tree / ".github" / "git~10").write_text("x\n")
    edit(workspace.tree)
    patch = collect(workspace)
    assert [file.path for file in patch.files] == [".github/git~10", "toy/order.py"]
    by_hand(workspace, patch, tmp_path)


def test_a_tree_of_which_nothing_can_be_made_says_so(workspace: Workspace) -> None:
    shutil.rmtree(workspace.tree)
    with pytest.raises(NotCollectableError, match=r"cannot be collected: .*No such file"):
        collect(workspace)


def test_only_the_ignore_files_of_base_hide_files(workspace: Workspace) -> None:
    tree = workspace.tree
    (tree / "noise.log").write_text("base ignores it\n")
    (tree / "toy/.gitignore").write_text("*\n")
    (tree / "toy/hidden.py").write_text("x = 1\n")
    assert [file.path for file in collect(workspace).files] == ["toy/.gitignore", "toy/hidden.py"]
    (tree / ".gitignore").write_text("*\n")
    assert [file.path for file in collect(workspace).files] == [".gitignore", "toy/.gitignore", "toy/hidden.py"]
    (tree / ".gitignore").unlink()
    assert [file.path for file in collect(workspace).files] == [".gitignore", "toy/.gitignore", "toy/hidden.py"]


IGNORES = {
    ".gitignore": "# all\n*.o\n!keep.o\n/out\nbuild/\r\na/*/skip\n\\#odd\nend\\ \n \n/\n",
    "a/.gitignore": "\ufeff*.tmp\n/only\n!main.o\nb/deep\nlogs/\n!\n/\n//\n#no\n\\!bang\n**/far\nx[!y]z",
    "a/b/.gitignore": "*\n!.gitignore\n!*.py\n",
    "odd *[x]/.gitignore": "secret\n/in/\n",
    "caf\u00e9/.gitignore": "secret \n!*.o\n",
}
NAMES = (
    "x.o", "keep.o", "main.o", "out", "build", "skip", "#odd", "end ", "x.tmp", "only", "deep", "logs", "!bang", "far",
    "xaz", "xyz", "secret", "in", "x.py", "plain",
)  # fmt: skip


def test_ignore_files_of_base_mean_what_they_mean_to_git(
    make_task: Callable[..., object], settings: object, bubblewrap: None
) -> None:
    from omniperf.measure.bench import open_bench
    from omniperf.results.events import ignore

    bench = open_bench(make_task(files=IGNORES), settings, ignore)  # type: ignore[arg-type]
    workspace = bench.workspace("agent")
    folders = ("", "a", "a/b", "a/c", "a/c/d", "a/logs", "odd *[x]", "odd *[x]/in", "odd xx", "caf\u00e9")
    for folder in folders:
        (workspace.tree / folder).mkdir(exist_ok=True)
    for folder in folders:
        for name in NAMES:
            if not (path := workspace.tree / folder / name).is_dir():
                path.write_text("x\n")
    listed = git(workspace.tree, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore")
    wanted = set(listed.split("\0")[:-1])
    assert {"a/main.o", "a/b/x.py", "odd *[x]/plain", "odd xx/secret"} <= wanted
    assert not {"a/x.o", "a/b/plain", "odd *[x]/secret", "a/only"} & wanted
    assert {file.path for file in collect(workspace).files} == wanted


COLLECT = """\
import sys
from pathlib import Path
from omniperf.workspace.patch import collect
from omniperf.workspace.seal import Seal
from omniperf.workspace.worktree import Workspace
root, git_dir, commit, tree = sys.argv[1:]
print(*(file.path for file in collect(Workspace(Path(root), Seal(Path(git_dir), commit, tree))).files))
"""


@pytest.mark.skipif(os.getuid() == 0 and not shutil.which("setpriv"), reason="root cannot give up its powers here")
@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400, 0o600])
def test_what_an_agent_closed_is_opened_where_we_are_not_almighty(workspace: Workspace, mode: int) -> None:
    inner = workspace.tree / "toy/closed/inner"
    inner.mkdir(parents=True)
    (inner / "c.py").write_text("c = 1\n")
    for path in (inner / "c.py", inner, inner.parent):
        path.chmod(mode)
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.getuid() == 0 else ()
    seal = (str(workspace.seal.git_dir), workspace.seal.commit, workspace.seal.tree)
    done = subprocess.run(
        (*powerless, sys.executable, "-c", COLLECT, str(workspace.root), *seal), capture_output=True, text=True
    )
    assert done.stdout == "toy/closed/inner/c.py\n", done.stderr


def test_folders_too_deep_to_be_named_are_dropped(workspace: Workspace) -> None:
    edit(workspace.tree)
    for length in (10, 250):
        dig = f"import os\nfor _ in range(3000): os.mkdir('d' * {length}); os.chdir('d' * {length})\nopen('x', 'w')"
        subprocess.run((sys.executable, "-c", dig), cwd=workspace.tree, check=True)
    assert [file.path for file in collect(workspace).files] == ["toy/order.py"]
    workspace.remove()
    assert not workspace.tree.exists()


def test_nothing_planted_in_the_tree_or_the_agents_git_runs_on_the_host(workspace: Workspace, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    planted = f"touch {mark}; cat"
    with (workspace.git_dir / "config").open("a") as config:
        config.write(
            f'[filter "planted"]\n\tclean = {planted}\n\tsmudge = {planted}\n[core]\n\tfsmonitor = touch {mark}\n'
        )
    hook = workspace.git_dir / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
    hook.chmod(0o755)
    (workspace.tree / ".gitattributes").write_text("* filter=planted diff=planted\n")
    edit(workspace.tree)
    assert {file.path for file in collect(workspace).files} == {".gitattributes", "toy/order.py"}
    assert not mark.exists()


def test_a_wiped_git_changes_nothing(workspace: Workspace) -> None:
    edit(workspace.tree)
    expected = collect(workspace)
    shutil.rmtree(workspace.git_dir)
    (workspace.tree / ".git").unlink()
    assert collect(workspace) == expected


def test_a_file_edited_back_to_its_old_time_is_still_seen(workspace: Workspace) -> None:
    target = workspace.tree / "toy/order.py"
    before = target.stat()
    target.write_text(target.read_text().replace("seen", "SEEN"))
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert [file.path for file in collect(workspace).files] == ["toy/order.py"]


def test_an_edit_in_the_second_of_the_checkout_is_seen(bench: Bench) -> None:
    for _ in range(20):
        made = bench.workspace("agent")
        file = made.tree / "toy/order.py"
        checked_out = file.stat()
        file.write_text(file.read_text().replace("o", "0"))  # as long as before, in place
        edited = file.stat()
        time.sleep(1.1)  # collected in another
        found = collect(made)
        made.remove()
        assert [changed.path for changed in found.files] == ["toy/order.py"]
        if int(edited.st_ctime) == int(checked_out.st_ctime):
            return
    pytest.fail("no checkout was followed by its edit within one second")


@pytest.fixture
def with_submodule(bench: Bench) -> Workspace:
    """A workspace whose base has a submodule at `vendored`."""
    repo = bench.task.folder / "repo"
    git(repo, "update-index", "--add", "--cacheinfo", f"160000,{bench.source.base},vendored")
    git(repo, "commit", "-q", "-m", "submodule")
    source = replace(bench.source, base=git(repo, "rev-parse", "HEAD"))
    return replace(bench, seal=seal(source, (), bench.settings.cache)).workspace("agent")


def test_a_submodule_stub_stays_as_it_is(with_submodule: Workspace) -> None:
    edit(with_submodule.tree)
    assert [file.path for file in collect(with_submodule).files] == ["toy/order.py"]


def test_a_submodule_that_became_a_file_is_seen(with_submodule: Workspace) -> None:
    (with_submodule.tree / "vendored").rmdir()
    (with_submodule.tree / "vendored").write_text("x\n")
    (with_submodule.tree / ".gitmodules").write_text('[submodule "v"]\n\tpath = vendored\n\tignore = all\n')
    found = {file.path: file.mode for file in collect(with_submodule).files}
    assert found == {".gitmodules": "100644", "vendored": "100644"}


@pytest.mark.parametrize("how", ["look", "collect"])
def test_no_git_of_a_submodule_runs_on_the_host(
    with_submodule: Workspace, bench: Bench, tmp_path: Path, how: str
) -> None:
    mark, inner = tmp_path / "ran", with_submodule.tree / "vendored"
    (inner / "f").write_text("x")
    git(inner, "init", "-q")
    git(inner, "add", "f")
    (inner / ".git" / "HEAD").write_text(f"{bench.source.base}\n")  # no commit of its own stands out
    (inner / ".git" / "info").mkdir(exist_ok=True)
    (inner / ".git" / "info" / "attributes").write_text("* filter=planted\n")
    with (inner / ".git" / "config").open("a") as config:
        config.write(f'[filter "planted"]\n\tclean = touch {mark}; cat\n')
    os.utime(inner / "f", (1, 1))
    if how == "look":
        assert not with_submodule.edited()
    else:  # as where a process puts it back after it was deleted
        edit(with_submodule.tree)
        assert [file.path for file in patch_module._collect_anew(with_submodule, "").files] == ["toy/order.py"]
    assert not mark.exists()


def test_files_of_which_only_the_time_changed_are_not_too_many(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_module, "_MOST_FILES", 1)
    edit(workspace.tree)
    for file in workspace.tree.rglob("*.py"):
        os.utime(file, (1, 1))
    assert [file.path for file in collect(workspace).files] == ["toy/order.py"]


@pytest.mark.parametrize(
    "diff",
    [
        b"not a diff\n",
        b"--- a/toy/order.py\n+++ b/toy/order.py\n@@ -1,1 +1,1 @@\n-no such line\n+x\n",
        b"--- a/../escape.py\n+++ b/../escape.py\n@@ -0,0 +1 @@\n+x\n",
        b"--- /dev/null\n+++ b/.git/config\n@@ -0,0 +1 @@\n+x\n",
    ],
    ids=["garbage", "other context", "leaves the tree", "into .git"],
)
def test_a_diff_that_does_not_apply_is_refused(bench: Bench, diff: bytes) -> None:
    with pytest.raises(PatchDoesNotApplyError):
        parse(bench.seal, diff)


def test_changes_to_some_paths_can_be_left_out(workspace: Workspace) -> None:
    from omniperf.workspace.patch import without

    tree = workspace.tree
    edit(tree)
    (tree / "tests/test_order.py").write_text("weakened = True\n")
    (tree / "tests/conftest.py").write_text("planted = True\n")
    (tree / "tests/__init__.py").unlink()
    patch = collect(workspace)
    assert len(patch.files) == 4
    kept = without(workspace.seal, patch, ("tests/**",))
    assert [file.path for file in kept.files] == ["toy/order.py"]
    assert without(workspace.seal, kept, ("tests/**",)) == kept


def test_a_folder_made_a_link_is_left_out_too(workspace: Workspace) -> None:
    from omniperf.workspace.patch import without

    shutil.rmtree(workspace.tree / "tests")
    (workspace.tree / "tests").symlink_to("/etc")
    patch = collect(workspace)
    assert without(workspace.seal, patch, ("tests", "tests/**")).files == ()


def test_the_final_collection_sees_what_changes_no_time(workspace: Workspace) -> None:
    file = workspace.tree / "toy/order.py"
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[:1] = b"#"
        time.sleep(0.2)
        first = collect(workspace)
        mapped[1:2] = b"#"
        last = collect(workspace, final=True)
    assert first.data != last.data
    assert b"+##" in last.data


def test_what_was_as_base_through_a_mapping_and_is_no_longer_is_seen(workspace: Workspace) -> None:
    file = workspace.tree / "toy/order.py"
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        mapped[:1] = mapped[:1]
        time.sleep(1.2)
        assert collect(workspace).files == ()
        mapped[:1] = b"#"
        assert [changed.path for changed in collect(workspace, final=True).files] == ["toy/order.py"]
