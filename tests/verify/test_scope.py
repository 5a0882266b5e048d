"""Which changes are out of bounds, by their paths, modes and links, and which are only pointed out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from omniperf.results.schema import PatchFile
from omniperf.tasks.schema import Task
from omniperf.verify import scope
from omniperf.workspace.patch import Patch, collect, parse
from tests.conftest import FAST

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.measure.bench import Bench
    from omniperf.workspace.worktree import Workspace


def task(*targets: str, allow: tuple[str, ...] = (), **more: object) -> Task:
    fields = {"schema": "omniperf/task/v1", "id": "toy", "title": "t", "repo": {"path": "."}, "workload": "w.py"}
    return Task.model_validate({**fields, "targets": targets, "allow_protected": allow, **more})


def found(path: str, of: Task, **more: object) -> list[str]:
    file = PatchFile.model_validate({"path": path, "status": "modified", "added": 1, "mode": "100644", **more})
    file = file.model_copy(update={"old_mode": more.get("old_mode", file.mode)})
    return [finding.id for finding in scope.findings(Patch(b"", "", (file,)), of)]


PROTECTED = (
    "tests/helper.py", "pkg/tests/data.json", "pkg/test_a.py", "pkg/a_test.py", "conftest.py", "setup.py",
    "python/setup.py", "pkg/pyproject.toml", "Makefile", "csrc/CMakeLists.txt", "package.json", "docs/requirements.txt",
    "uv.lock", "a/poetry.lock", "Pipfile.lock", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", "Cargo.lock",
    "go.sum", "conda-lock.yml", "pixi.lock", ".pre-commit-config.yaml", "Dockerfile", "docker/Dockerfile.gpu",
    ".github/workflows/ci.yml", ".gitlab-ci.yml", "Jenkinsfile", "pkg/.gitattributes", ".gitmodules",
    "pkg/sitecustomize.py", "evil.pth", "x.egg-info/entry_points.txt",
)  # fmt: skip


@pytest.mark.parametrize("path", PROTECTED)
def test_what_judges_a_patch_is_protected_even_from_a_target_that_covers_all(path: str) -> None:
    assert found(path, task("**")) == ["protected-file"]
    assert found(path, task("**", allow=(path,))) == []


@pytest.mark.parametrize(
    "path", ["src/a.py", "src/contest.py", "src/latest/a.py", "src/lock.py", "build/x.py", "été.c"]
)
def test_ordinary_files_of_a_target_are_in_scope(path: str) -> None:
    assert found(path, task("**")) == []
    assert found(path, task("lib/*.py")) == ["out-of-scope"]


LOOK_ALIKES = {
    "case of a folder": "Tests/helper.py",
    "case of a file": "SETUP.PY",
    "Cyrillic": "t\u0435sts/helper.py",
    "Greek": "c\u03bfnftest.py",
    "full width": "\uff53etup.py",
    "ligature and long s": "te\u017fts/helper.py",
    "composed": "t\u00e9sts/helper.py",
    "decomposed": "te\u0301sts/helper.py",
    "not seen": "te\u200bsts/helper.py",
    "a blank at the end": "tests /helper.py",
    "a dot at the end": "setup.py.",
    "a lock file": "UV.Lock",
}


@pytest.mark.parametrize("how", LOOK_ALIKES)
def test_a_name_that_passes_for_a_protected_one_is_refused(how: str) -> None:
    of = task("**")
    file = PatchFile(path=LOOK_ALIKES[how], status="added", added=1, mode="100644")
    (finding,) = scope.findings(Patch(b"", "", (file,)), of)
    assert (finding.id, finding.severity) == ("protected-lookalike", "reject")
    assert finding.evidence.isascii()
    assert not scope.mark((file,), of)[0].in_scope


def test_a_rename_must_be_in_scope_at_both_ends() -> None:
    of = task("src/**")
    assert found("src/a.py", of, status="renamed", old_path="setup.py") == ["protected-file"]
    assert found("src/a.py", of, status="renamed", old_path="src/b.py") == []


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"workload": {"command": "python -u bench/speed.py --n 3"}}, "bench/speed.py"),
        ({"workload": {"command": "./bench/speed.sh"}}, "bench/speed.sh"),
        ({"tests": ["python checks/all.py"]}, "checks/all.py"),
        ({"tests": ["pytest -q checks/all.py::one 'other[1].py'"]}, "other[1].py"),
        ({"environment": {"build": ["bash tools/build.sh"]}}, "tools/build.sh"),
    ],
)
def test_scripts_that_the_task_names_are_protected(more: dict[str, object], path: str) -> None:
    assert found(path, task("**", **more)) == ["protected-file"]
    if "[" not in path:
        assert found(path, task(path, **more)) == []  # a target by its very name
    assert found("bench/other.py", task("**", **more)) == []


def test_the_workload_s_own_files_are_protected_where_they_lie_in_the_repository(tmp_path: object) -> None:
    of = task("**", repo={"path": "../.."}, workload={"command": "python -m toy", "files": ["data.json"]})
    of._folder = type(of._folder)(str(tmp_path)) / "perf" / "toy"
    assert found("perf/toy/data.json", of) == ["protected-file"]
    assert found("perf/toy/task.yaml", of) == ["protected-file"]
    assert found("toy/data.json", of) == []


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/etc/passwd", ["link-outside"]),
        ("../../elsewhere", ["link-outside"]),
        ("..", []),
        ("../tests", ["link-protected"]),
        ("../Tests/a", ["link-protected"]),
        ("./x/../../tests/test_order.py", ["link-protected"]),
        ("../.git/config", ["link-protected"]),
        ("order.py", []),
    ],
)
def test_where_a_link_leads(target: str, wanted: list[str]) -> None:
    assert found("toy/link", task("toy/**"), mode="120000", link=target, old_mode=None, status="added") == wanted


def test_what_a_reader_should_know_is_pointed_out() -> None:
    of = task("**")
    assert found("a.py", of, generated=True) == ["generated-file"]
    assert found("a_pb2.py", of) == ["generated-file"]
    assert found("pkg/_vendor/a.py", of) == ["vendored-file"]
    assert found("a.bin", of, added=None) == ["binary-file"]
    assert found("a.py", of, bytes=2**20 + 1) == ["large-file"]
    assert found("a.py", of, bytes=2**20) == []
    assert found("a.py", of, mode="100755", old_mode="100644") == ["executable-file"]
    assert found("a.py", of, mode="100755", old_mode="100755") == []
    (finding,) = scope.findings(Patch(b"x" * (5 * 2**20 + 1), "", ()), of)
    assert (finding.id, finding.severity) == ("large-file", "warn")


@pytest.fixture
def workspace(bench: Bench) -> Workspace:
    return bench.workspace("agent")


def test_modes_links_and_sizes_are_read_from_the_tree_itself(bench: Bench, workspace: Workspace) -> None:
    toy = workspace.tree / "toy"
    (toy / "order.py").write_text(FAST)
    (toy / "order.py").chmod(0o755)
    (toy / "out").symlink_to("/etc/passwd")
    (toy / "judge").symlink_to("../tests")
    (toy / "big.py").write_text("x = 1\n" * 200_000)
    (toy / "made.py").write_text("# @generated by a tool\nx = 1\n")
    (toy / "data.bin").write_bytes(os.urandom(2000))
    patch = collect(workspace)
    assert parse(bench.seal, patch.data).files == patch.files
    said = [(finding.id, finding.severity) for finding in scope.findings(patch, bench.task)]
    assert [name for name, severity in said if severity == "reject" and name.startswith("link")] == [
        "link-protected", "link-outside"
    ]  # fmt: skip
    of = bench.task.model_copy(update={"targets": ("toy/**",)})
    assert sorted(finding.id for finding in scope.findings(patch, of)) == [
        "binary-file", "executable-file", "generated-file", "large-file", "link-outside", "link-protected",
    ]  # fmt: skip


def test_a_patch_that_adds_a_submodule_is_refused(bench: Bench) -> None:
    made = (
        b"diff --git a/toy/sub b/toy/sub\nnew file mode 160000\nindex 0000000..1111111\n--- /dev/null\n+++ b/toy/sub\n"
        b"@@ -0,0 +1 @@\n+Subproject commit 1111111111111111111111111111111111111111\n"
    )
    of = bench.task.model_copy(update={"targets": ("toy/**",)})
    (finding,) = scope.findings(parse(bench.seal, made), of)
    assert (finding.id, finding.severity) == ("submodule", "reject")
    assert finding.evidence == "mode none -> 160000"


def test_what_is_only_pointed_out_stays_with_the_verdict(
    make_task: Callable[..., Task], settings: object, bubblewrap: None
) -> None:
    from omniperf.measure.bench import open_bench
    from omniperf.results.events import ignore
    from omniperf.verify.preflight import preflight
    from omniperf.verify.verdict import verify_patch

    bench = open_bench(make_task("measure: {max_minutes: 0.02}"), settings, ignore)  # type: ignore[arg-type]
    workspace = bench.workspace("agent")
    (workspace.tree / "toy/order.py").write_text(FAST + "# generated by hand\n")
    (workspace.tree / "toy/order.py").chmod(0o755)
    verdict = verify_patch(bench, collect(workspace).data, preflight(bench, ignore), lambda line: None, ignore)
    assert verdict.class_ in ("improved", "inconclusive")
    assert {"executable-file", "generated-file"} <= {finding.id for finding in verdict.findings}
