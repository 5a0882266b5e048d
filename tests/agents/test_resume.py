"""An attempt whose process ended goes on from its last complete step, and comes to the same end."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.protocol import Screening
from omniperf.agents.resume import resume_point
from omniperf.agents.snapshots import Snapshots, restore
from omniperf.errors import OmniPerfError
from tests.agents.conftest import APIS, Attempt, Ended, listed
from tests.agents.loopback import Call, Fail, Loopback, Say, Step
from tests.conftest import FAST, SLOW, git

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOP = SLOW[SLOW.index("    seen = []") :]
EDIT = ("edit", {"command": "str_replace", "path": "toy/order.py", "old": LOOP, "new": FAST[SLOW.index(LOOP) :]})


def bash(command: str) -> tuple[str, dict[str, str]]:
    return "bash", {"command": command}


TURNS = [
    Say("t", (bash("seq 2000"), EDIT), thinking="hm"),
    Say("t", (("bash", '{"command": "ec'), bash("echo a > toy/new.py; chmod 755 toy/new.py; ln -s new.py toy/link"))),
    Say("t", (("commit", {"message": "first"}), bash("echo b >> toy/new.py")), thinking="hm"),
    Say("only words"),
    Say("t", (bash("mkdir -p toy/deep; mv toy/new.py toy/deep/new.py; rm README.md; seq 2000"), ("fly", {}))),
    Say("t", (bash("cat toy/deep/new.py; git log --format=%s; seq 3000"), ("commit", {"message": "second"}))),
    Say("t", (bash("echo c >> toy/deep/new.py; git log --format=%s"), ("finish", {"summary": "done"}))),
    Say("t", (("finish", {"summary": "done"}),)),
]


def served(trouble: list[int]) -> Callable[[Call], Step]:
    """What the model says is known by what it was told; at the turns of `trouble` the server fails first."""

    def step(call: Call) -> Step:
        text = json.dumps(call.body)
        left_out = sum(int(n) for n in re.findall(r"\[(\d+) earlier replies", text))
        done = left_out + sum(item.get("role") == "assistant" for item in listed(call.body))
        if done in trouble:
            trouble.remove(done)
            return Say(TURNS[done].text, TURNS[done].calls, cut=True)
        return replace(TURNS[done], usage=(len(text) // 4, 0, 0, 20)) if done < len(TURNS) else Fail(500)

    return step


def told(server: Loopback) -> str:
    """The last request, but for what two runs cannot have in common: seconds, ids, hashes of commits."""
    text = json.dumps(listed(server.calls[-1].body))
    text = re.sub(r'"(toolu|call|fc|msg|rs)_[\d_]+"', '"id"', text)
    text = re.sub(r"\d+\.\d s|\d+(\.\d)? min|\d\.\d\d USD", "T", text)
    return re.sub(r"committed [0-9a-f]{12}", "committed X", text)


def commits(ended: Ended) -> list[str]:
    seal = ended.workspace.seal.git_dir / "objects"
    os.environ["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = str(seal)
    try:
        where = ("-c", "safe.directory=*", "--git-dir", str(ended.workspace.git_dir))
        return git(ended.folder, *where, "log", "--format=%s %T").splitlines()
    finally:
        del os.environ["GIT_ALTERNATE_OBJECT_DIRECTORIES"]


@pytest.mark.parametrize("api", APIS)
def test_an_attempt_that_is_cut_at_any_line_comes_to_the_same_end(
    api: str, loopback: Loopback, attempt: Attempt, tmp_path: Path
) -> None:
    limits = {"steps": 30, "usd": 1000, "tokens": 10**8}
    more = {"model": "my-model", "context": "8000", "max_output": "2000"} if api == "chat" else {}
    whole = attempt(served([2]), api, limits, **more)
    assert (whole.outcome.kind, whole.outcome.finish_called) == ("finished", True)
    end = told(loopback)
    lines = (whole.folder / "trajectory.jsonl").read_bytes().splitlines(keepends=True)
    kinds = [json.loads(line)["kind"] for line in lines]
    assert {"request", "reply", "failed", "tree", "done", "finished"} <= set(kinds)
    assert any(b'"cut":' in line for line in lines) is (api == "chat")
    for count in range(1, len(lines) + 1):
        if api != "chat" and count % 3:
            continue  # what differs between the APIs is how items are written
        folder = tmp_path / f"cut-{count}" / "attempt.1"
        shutil.copytree(whole.folder / "snapshots", folder / "snapshots")
        torn = lines[count][:-7] if count < len(lines) else b""
        (folder / "trajectory.jsonl").write_bytes(b"".join(lines[:count]) + torn)
        point = resume_point(folder)
        if point is None:
            assert "reply" not in kinds[:count]
            continue
        trouble = [2] if kinds[:count].count("failed") == 0 else []
        ended = attempt(served(trouble), api, limits, name=f"cut-{count}/attempt.1", point=point, **more)
        assert (ended.outcome, ended.patch) == (whole.outcome, whole.patch), (count, kinds[count - 1])
        assert ended.usage.steps == whole.usage.steps
        assert commits(ended) == commits(whole)
        if loopback.calls:
            assert told(loopback) == end, (count, kinds[count - 1])
        counted = ended.usage.input_tokens + ended.usage.output_tokens
        assert counted == pytest.approx(whole.usage.input_tokens + whole.usage.output_tokens, rel=0.02), (
            count,
            kinds[:count],
        )
    assert whole.patch.count("toy/deep/new.py") >= 2
    assert "new file mode 120000" in whole.patch


def test_what_was_resumed_can_be_resumed_again(loopback: Loopback, attempt: Attempt, tmp_path: Path) -> None:
    whole = attempt(served([]), "chat", {"steps": 30})
    end = told(loopback)
    lines = (whole.folder / "trajectory.jsonl").read_bytes().splitlines(keepends=True)
    for count in (7, 12, 4):  # each cuts into what the one before had written anew
        file = whole.folder / "trajectory.jsonl"
        file.write_bytes(b"".join(lines[:count]))
        ended = attempt(served([]), "chat", {"steps": 30}, point=resume_point(whole.folder))
        lines = file.read_bytes().splitlines(keepends=True)
        assert b'"resumed"' in b"".join(lines[count:])
        assert (ended.outcome, ended.patch, told(loopback)) == (whole.outcome, whole.patch, end)
        point = resume_point(whole.folder)
        assert point is not None
        assert point.waits


def test_when_the_first_edit_and_the_first_gain_were_is_known_after_resuming(
    loopback: Loopback, attempt: Attempt
) -> None:
    script = [Say("", (bash("sleep 1"),)), Say("", (EDIT,)), Say("", (bash("sleep 1"),)), Fail(401)]
    whole = attempt(script, "chat")
    file = whole.folder / "trajectory.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    replies = [at for at, line in enumerate(lines) if json.loads(line)["kind"] == "reply"]
    screening = Screening("faster", 2.0, 1.9, 2.1, pairs=6, outputs_equal=True)
    lines.insert(replies[2] + 1, json.dumps({"kind": "done", "screened": asdict(screening), "against": "base"}) + "\n")
    file.write_text("".join(lines))
    finish = Say("t", (("finish", {"summary": "done"}),))
    ended = attempt([finish, finish], "chat", point=resume_point(whole.folder))
    first, gain = whole.usage.seconds_to_first_edit, ended.usage.seconds_to_first_gain
    assert first is not None
    assert gain is not None
    assert ended.usage.seconds_to_first_edit == pytest.approx(first, abs=2)
    assert ended.usage.seconds_to_first_edit < gain


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("", None),
        ('{"kind": "conversation"}\n', None),
        ('{"kind": "conversation"}\n{"kind": "request", "items": []}\n{"kind": "re', False),
        ('{"kind": "request"}\n{"kind": "reply"}\n{"kind": "tree", "changed": {"a": null}}\n', True),
        ('{"kind": "request"}\n{"kind": "tree", "changed": null}\n{"kind": "request"}\n{"kind": "reply"}\n', False),
    ],
)
def test_where_an_attempt_can_go_on(tmp_path: Path, written: str, found: bool | None) -> None:
    (tmp_path / "trajectory.jsonl").write_text(written)
    point = resume_point(tmp_path)
    assert (None if point is None else point.waits) is found


def test_an_attempt_that_never_began_starts_anew(tmp_path: Path) -> None:
    assert resume_point(tmp_path) is None


def test_a_snapshot_holds_what_changed_and_nothing_else(tmp_path: Path) -> None:
    trees: list[Path] = []
    for name in ("one", "two"):
        tree = tmp_path / name
        (tree / "sub").mkdir(parents=True)
        (tree / "same").write_text("same")
        (tree / "sub" / "gone").write_text("gone")
        (tree / "edited").write_text("before")
        trees.append(tree)
    one, two = trees
    shots, store = Snapshots(one, tmp_path / "store"), tmp_path / "store"
    assert shots.take() == {}
    shutil.rmtree(one / "sub")
    (one / "sub").write_text("a file where a folder was")
    (one / "edited").write_text("after!")
    (one / "odd \udcff").write_bytes(b"\xff\0")
    (one / "run").write_text("#!/bin/sh")
    (one / "run").chmod(0o755)
    (one / "out").symlink_to("/etc/passwd")
    (one / "__pycache__").mkdir()
    (one / "__pycache__" / "x.pyc").write_text("made anew")
    delta = shots.take()
    assert delta is not None
    assert set(delta) == {"sub/gone", "sub", "edited", "odd \udcff", "run", "out"}
    assert shots.take() == {}
    kept: dict[str, Any] = json.loads(json.dumps(delta))
    restore(two, kept, store)
    assert (two / "sub").read_text() == "a file where a folder was"
    assert (two / "edited").read_text() == "after!"
    assert (two / "odd \udcff").read_bytes() == b"\xff\0"
    assert (two / "run").stat().st_mode & 0o111 == 0o111
    assert str((two / "out").readlink()) == "/etc/passwd"
    for file in store.iterdir():
        file.write_text("damaged")
    with pytest.raises(OmniPerfError, match="missing or damaged"):
        restore(two, kept, store)


def test_a_file_that_grows_is_kept_up_to_a_size_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omniperf.agents.snapshots._MOST_IN_ALL", 10 * 4096)
    tree, store = tmp_path / "tree", tmp_path / "store"
    tree.mkdir()
    shots, taken = Snapshots(tree, store), []
    for step in range(6):  # of 1, 2, 3 and 4 blocks, and then of one too many
        with (tree / "log").open("a") as log:
            log.write(f"{step}" * 4096)
        taken.append(shots.take())
        if step == 2:
            shots = Snapshots(tree, store)  # resumed: what is there counts
    assert [each and set(each) for each in taken] == [{"log"}] * 4 + [None, {}]
    assert sum(file.stat().st_size for file in store.iterdir()) == 10 * 4096
    (tree / "log").write_text("0" * 4096)
    again = Snapshots(tree, store)
    (tree / "copy").write_text("0" * 4096)
    assert set(again.take() or ()) == {"copy"}, "what is there already costs nothing"


def test_a_tree_that_cannot_be_kept_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omniperf.agents.snapshots._MOST_BYTES", 100)
    tree = tmp_path / "tree"
    tree.mkdir()
    shots = Snapshots(tree, tmp_path / "store")
    (tree / "large").write_text("x" * 101)
    assert shots.take() is None
    assert shots.take() == {}
