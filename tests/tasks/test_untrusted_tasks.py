"""Task files of others: whatever they hold, one sentence and exit status 2, and nothing of theirs was done."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.settings import load_settings
from omniperf.tasks.load import load_task

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "schema: omniperf/task/v1\nid: evil\ntitle: t\n"
GOOD = HEAD + 'repo: {path: .}\ntargets: ["a.py"]\nworkload: workload.py\n'
WORKLOAD = "def setup(seed): return seed\ndef run(state): return state\n"
BOMB = "a: &a [x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(8)
)


def write(folder: Path, text: str, workload: str = WORKLOAD) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "task.yaml").write_text(text)
    (folder / "workload.py").write_text(workload)
    return folder


def url(text: str) -> str:
    return GOOD.replace("{path: .}", f"{{url: '{text}', base: abc}}")


FILES = {
    "a bomb of aliases": (BOMB, "the anchor &a is not allowed"),
    "a tag that makes an object": (HEAD + "x: !!python/object/apply:os.system ['touch pwned']\n", "the tag !!python"),
    "a tag of its own": (HEAD + "x: !include /etc/passwd\n", "the tag !include is not allowed"),
    "a merge key": (HEAD + "x: {<<: {a: 1}}\n", "the merge key << is not allowed"),
    "nested deeply": (HEAD + "x: " + "[" * 100_000, "nested more than 32 deep"),
    "nested deeply in blocks": (HEAD + "x:\n" + "".join(f"{' ' * n}- \n" for n in range(1, 99)), "nested more than 32"),
    "too large": (HEAD + f"description: {'x' * 2**20}\n", "Keep it below"),
    "a number too long": (HEAD + f"limits: {{steps: {'9' * 5000}}}\n", "limits.steps"),
    "an id that leaves": (GOOD.replace("id: evil", "id: ../../evil"), "id:"),
    "an absolute id": (GOOD.replace("id: evil", "id: /evil"), "id:"),
    "an id with a NUL": (GOOD.replace("id: evil", 'id: "a\\0b"'), "id:"),
    "an id with a line end": (GOOD.replace("id: evil", 'id: "evil\\n"'), "id:"),
    "an id in capitals": (GOOD.replace("id: evil", "id: Evil"), "id:"),
    "a device as id": (GOOD.replace("id: evil", "id: nul"), "cannot name a folder everywhere"),
    "a device with a suffix": (GOOD.replace("id: evil", "id: com1.txt"), "cannot name a folder everywhere"),
    "a workload elsewhere": (GOOD.replace("workload.py", "../workload.py"), "must be a relative path inside the tree"),
    "an absolute workload": (GOOD.replace("workload.py", "/etc/passwd"), "must be a relative path inside the tree"),
    "a target with a NUL": (GOOD.replace('"a.py"', '"a\\0.py"'), "must be a relative path inside the tree"),
    "a glob that matches for ever": (GOOD.replace('"a.py"', f'"{"*a" * 30}b"'), "has too many wildcards"),
    "folders that match for ever": (GOOD.replace('"a.py"', f'"{"**/" * 30}b"'), "has too many wildcards"),
    "an option as URL": (url("--upload-pack=touch pwned"), "is no URL of a repository"),
    "a program as URL": (url("ext::sh -c touch% pwned"), "is no URL of a repository"),
    "an option as host": (url("ssh://-oProxyCommand=touch/x"), "is no URL of a repository"),
    "a URL that leaves the mirrors": (url("https://host/../../home/me/private"), "holds '..'"),
    "an option as commit": (url("https://host/x").replace("abc", "--upload-pack=touch"), "names no commit"),
    "a package that leaves the cache": (GOOD.replace("path: .", "pypi: a==../../x"), "repo.pypi"),
}  # fmt: skip


@pytest.mark.parametrize("what", FILES)
def test_a_task_file_that_is_no_plain_data_is_refused(tmp_path: Path, what: str) -> None:
    text, said = FILES[what]
    folder = write(tmp_path / "evil", text)
    done = subprocess.run(
        (sys.executable, "-m", "omniperf", "tasks", "show", str(folder)),
        cwd=tmp_path, capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 3000
    assert [path.name for path in tmp_path.iterdir()] == ["evil"]
    assert sorted(path.name for path in folder.iterdir()) == ["task.yaml", "workload.py"]


@pytest.mark.parametrize(
    "good", ["https://host/a/b.git", "ssh://git@host:22/a", "git@host:a/b.git", "file:///srv/a.git"]
)
def test_ordinary_urls_are_taken(tmp_path: Path, good: str) -> None:
    task = load_task(str(write(tmp_path / "good", url(good))), load_settings({}))
    assert task.repo is not None
    assert task.repo.url == good


@pytest.mark.parametrize("deep", ["-" * 100_000 + "1", "(" * 5000, "x" + ".x" * 50_000])
def test_a_workload_that_no_parser_stands_is_refused(tmp_path: Path, deep: str) -> None:
    folder = write(tmp_path / "evil", GOOD, f"{WORKLOAD}y = {deep}\n")
    with pytest.raises(UsageError, match=r"nested too deeply|too many nested|never closed"):
        load_task(str(folder), load_settings({}))


def test_a_file_of_the_task_that_is_a_link_to_elsewhere_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(WORKLOAD)
    folder = write(tmp_path / "evil", GOOD)
    (folder / "workload.py").unlink()
    (folder / "workload.py").symlink_to("../secret")
    with pytest.raises(UsageError, match=r"workload: workload\.py is a link that leads away\."):
        load_task(str(folder), load_settings({}))
    (folder / "inner.py").write_text(WORKLOAD)
    (folder / "workload.py").unlink()
    (folder / "workload.py").symlink_to("inner.py")
    load_task(str(folder), load_settings({}))
