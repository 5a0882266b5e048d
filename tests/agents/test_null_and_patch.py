"""The control arms `null` and `patch`."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any, cast

import pytest

from omniperf.agents.arms.null import NullAgent
from omniperf.agents.arms.patch import PatchAgent
from omniperf.agents.protocol import Outcome, Session, ToolError
from omniperf.errors import OmniPerfError, UsageError
from omniperf.gateway.budget import Budget
from omniperf.tasks.schema import Limits, Task
from omniperf.workspace.comment import COMMENT
from omniperf.workspace.patch import PatchDoesNotApplyError

if TYPE_CHECKING:
    from pathlib import Path


class FakeTools:
    """What `null` and `patch` use of the tools, over a folder."""

    def __init__(self, tree: Path, budget: Budget) -> None:
        self.tree, self.budget, self.done = tree, budget, list[str]()

    def view(self, path: str) -> str:
        self.budget.step()
        return (self.tree / path).read_bytes().decode("utf-8", "surrogateescape")

    def create(self, path: str, text: str) -> None:
        self.budget.step()
        if path.startswith("locked"):
            raise ToolError(f"{path} cannot be written")
        (self.tree / path).write_bytes(text.encode("utf-8", "surrogateescape"))

    def commit(self, message: str) -> str:
        self.budget.step()
        self.done.append("commit")
        return "1" * 40

    def finish(self, summary: str) -> None:
        self.budget.step()
        self.done.append("finish")


class FakeWorkspace:
    def __init__(self, tree: Path) -> None:
        self.tree, self.applied = tree, b""

    def apply(self, patch: bytes) -> None:
        if patch == b"of another base":
            raise OmniPerfError("The patch does not apply.")
        self.applied = patch


def session(
    tree: Path, files: dict[str, bytes], targets: tuple[str, ...], steps: int = 40, **options: str
) -> tuple[Session, FakeTools, FakeWorkspace]:
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    budget = Budget(Limits(steps=steps))
    tools, workspace = FakeTools(tree, budget), FakeWorkspace(tree)
    task = Task.model_validate(
        {
            "schema": "omniperf/task/v1", "id": "t", "title": "t", "targets": targets,
            "repo": {"path": "repo"}, "workload": "workload.py",
        }
    )  # fmt: skip
    given = Session(
        task, "", cast("Any", workspace), cast("Any", tools), budget, journal=cast("Any", None), options=options
    )
    return given, tools, workspace


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("a.py", b"x = 1\n", b"x = 1\n# %s\n"),
        ("a.py", b"x = 1", b"x = 1\n# %s"),
        ("a.py", b"x = 1\r\n", b"x = 1\r\n# %s\r\n"),
        ("a.py", b"", b"# %s\n"),
        ("a.py", b"# \xe9\n", b"# \xe9\n# %s\n"),
        ("a.toml", b"[a]\n", b"[a]\n# %s\n"),
        ("kernel.cu", b"int x;\n", b"int x;\n// %s\n"),
        ("sub/A.CPP", b"int x;\n", b"int x;\n// %s\n"),
        ("a.rs", b"fn f() {}\n", b"fn f() {}\n// %s\n"),
        ("a.sql", b"select 1;\n", b"select 1;\n-- %s\n"),
        ("a.css", b"a {}\n", b"a {}\n/* %s */\n"),
        ("a.html", b"<p>\n", b"<p>\n<!-- %s -->\n"),
        ("Makefile", b"all:\n", b"all:\n# %s\n"),
    ],
)
def test_null_appends_a_comment_in_the_files_own_syntax(tmp_path: Path, name: str, before: bytes, after: bytes) -> None:
    given, tools, _ = session(tmp_path, {name: before}, (name,))
    assert NullAgent().solve(given) == Outcome("finished")
    content = (tmp_path / name).read_bytes()
    assert content == after % COMMENT.encode()
    assert tools.done == ["commit", "finish"]
    if name.endswith(".py") and b"\xe9" not in before:
        assert ast.dump(ast.parse(content)) == ast.dump(ast.parse(before))


def test_null_takes_the_first_target_in_the_tasks_order_that_takes_a_comment(tmp_path: Path) -> None:
    files = {"a/data.json": b"{}\n", "a/deep/b.py": b"\n", "a/c.py": b"\n", ".git/a.py": b"\n", "z.py": b"\n"}
    targets = ("missing.py", "a/*.json", "a/**/*.py", "**/*.py")
    given, _, _ = session(tmp_path, files, targets)
    (tmp_path / "a/a.py").symlink_to("c.py")
    assert NullAgent().solve(given).kind == "finished"
    changed = [name for name, content in files.items() if (tmp_path / name).read_bytes() != content]
    assert changed == ["a/c.py"]


def test_null_says_why_it_could_not(tmp_path: Path) -> None:
    given, _, _ = session(tmp_path, {"a.json": b"{}"}, ("a.json", "b.py"))
    assert NullAgent().solve(given).kind == "agent_error"
    given, _, _ = session(tmp_path, {"locked.py": b""}, ("locked.py",))
    assert NullAgent().solve(given) == Outcome("agent_error", "locked.py cannot be written")
    given, _, _ = session(tmp_path, {"a.py": b""}, ("a.py",), steps=1)
    assert NullAgent().solve(given).kind == "budget"


def test_patch_applies_the_named_diff(tmp_path: Path) -> None:
    diff = tmp_path / "fast.diff"
    diff.write_bytes(b"diff \xff\r\n")
    given, tools, workspace = session(tmp_path, {}, ("a.py",), file=str(diff))
    assert PatchAgent().solve(given) == Outcome("finished")
    assert workspace.applied == b"diff \xff\r\n"
    assert tools.done == ["commit", "finish"]


def test_a_patch_that_does_not_apply_is_said_to_whoever_gives_the_verdict(tmp_path: Path) -> None:
    given, tools, _ = session(
        tmp_path, {"other.diff": b"of another base"}, ("a.py",), file=str(tmp_path / "other.diff")
    )
    with pytest.raises(PatchDoesNotApplyError, match=r"^The patch does not apply\.$"):
        PatchAgent().solve(given)
    assert not tools.done


def test_an_empty_patch_changes_nothing(tmp_path: Path) -> None:
    given, tools, workspace = session(tmp_path, {"empty.diff": b"\n"}, ("a.py",), file=str(tmp_path / "empty.diff"))
    assert PatchAgent().solve(given) == Outcome("finished")
    assert (tools.done, workspace.applied) == (["commit", "finish"], b"")


@pytest.mark.parametrize("options", [{}, {"file": ""}, {"file": "no/such.diff"}])
def test_patch_without_a_diff_is_a_usage_error_with_a_remedy(tmp_path: Path, options: dict[str, str]) -> None:
    given, _, _ = session(tmp_path, {}, ("a.py",), **options)
    with pytest.raises(UsageError) as raised:
        PatchAgent().solve(given)
    assert raised.value.remedy
