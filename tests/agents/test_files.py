"""Files of a tree, edited from the host although code from the sandbox was there before."""

import os
from pathlib import Path

import pytest

from omniperf.agents import files
from omniperf.agents.files import LARGEST, Files, write_inside
from omniperf.agents.protocol import ToolError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "toy").mkdir(parents=True)
    (tree / "toy/order.py").write_text("x = 1\n")
    (tree / ".git").write_text("gitdir: /on/the/host\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.py").write_text("kept")
    return tree


def test_writing_follows_no_link(tree: Path) -> None:
    outside = tree.parent / "outside"
    (tree / "a.py").symlink_to(outside / "a.py")
    (tree / "sub").symlink_to(outside)
    for path in ("a.py", "sub/a.py", "sub/new/a.py"):
        with pytest.raises(OSError):
            write_inside(tree, path, b"overwritten")
    assert (outside / "a.py").read_text() == "kept"
    assert [path.name for path in outside.iterdir()] == ["a.py"]


@pytest.mark.parametrize("target", [".git", "../outside/a.py", "toy/../.git", "loop", "/etc/hostname", "."])
def test_no_link_leads_to_git_or_out(tree: Path, target: str) -> None:
    (tree / "loop").symlink_to(target)
    edits = Files(tree)
    for path in ("loop", "./loop", "/workspace/loop"):
        for use in (lambda path=path: edits.read(path), lambda path=path: edits.write(path, "x")):
            with pytest.raises(ToolError):
                use()
    assert (tree / ".git").read_text() == "gitdir: /on/the/host\n"
    assert (tree.parent / "outside/a.py").read_text() == "kept"


def test_a_link_inside_the_tree_is_the_file_it_leads_to(tree: Path) -> None:
    (tree / "link.py").symlink_to("toy/order.py")
    edits = Files(tree)
    assert edits.read("link.py") == "x = 1\n"
    edits.write("link.py", "x = 2\n")
    assert (tree / "link.py").is_symlink()
    assert (tree / "toy/order.py").read_text() == "x = 2\n"
    edits.undo("toy/order.py")
    assert edits.read("link.py") == "x = 1\n"


def test_a_file_too_large_to_read_is_not_read(tree: Path) -> None:
    with (tree / "big").open("wb") as file:
        file.truncate(300 * 2**20)
    edits = Files(tree)
    for use in (lambda: edits.read("big"), lambda: edits.write("big", "x")):
        with pytest.raises(ToolError, match="big has 314,572,800 bytes, over 4 MiB"):
            use()
    assert (tree / "big").stat().st_size == 300 * 2**20
    with (tree / "big").open("wb") as file:
        file.truncate(LARGEST)
    assert len(edits.read("big")) == LARGEST


def test_what_is_no_file_does_not_hold_us(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    edits = Files(tree)
    for path in ("pipe", "toy"):
        for use in (lambda path=path: edits.read(path), lambda path=path: edits.write(path, "x")):
            with pytest.raises(ToolError, match="is not a regular file"):
                use()


def test_edits_are_taken_back_one_by_one(tree: Path) -> None:
    edits = Files(tree)
    edits.write("toy/order.py", "x = 2\n")
    edits.write("new/folder/a.py", "a = 1\n")
    edits.write("toy/order.py", "x = 3\n")
    for wanted in ("x = 2\n", "x = 1\n"):
        edits.undo("toy/order.py")
        assert edits.read("toy/order.py") == wanted
    edits.undo("new/folder/a.py")
    assert not (tree / "new/folder/a.py").exists()
    for path in ("toy/order.py", "new/folder/a.py"):
        with pytest.raises(ToolError, match="left to take back"):
            edits.undo(path)


def test_only_so_much_is_remembered(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_REMEMBERED", 2500)
    edits = Files(tree)
    for number in range(5):
        edits.write("a.py", str(number) * 1000)
    for wanted in ("3", "2"):
        edits.undo("a.py")
        assert edits.read("a.py") == wanted * 1000
    with pytest.raises(ToolError, match="left to take back"):
        edits.undo("a.py")
