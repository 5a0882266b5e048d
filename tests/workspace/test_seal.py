"""A seal holds base and nothing else."""

import json
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from omniperf.errors import UsageError
from omniperf.measure.bench import Bench
from omniperf.workspace.seal import seal
from omniperf.workspace.source import _unpack, listed_files
from tests.conftest import git


def objects(git_dir: Path) -> set[str]:
    listing = git(git_dir, "--git-dir", str(git_dir), "cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(listing.split())


def test_no_object_of_the_human_commit_is_there(bench: Bench) -> None:
    repo = bench.task.folder / "repo"
    base = set(git(repo, "rev-list", "--objects", "--no-object-names", "--no-walk", bench.source.base).split())
    assert objects(bench.seal.git_dir) == base
    assert bench.source.human is not None
    assert bench.source.human not in objects(bench.seal.git_dir)


def test_no_ref_names_anything(bench: Bench) -> None:
    assert git(bench.seal.git_dir, "--git-dir", str(bench.seal.git_dir), "for-each-ref") == ""


def test_omitted_files_are_gone_and_change_the_hash(bench: Bench) -> None:
    without = seal(bench.source, ("README.md",), bench.settings.cache)
    names = git(
        without.git_dir, "--git-dir", str(without.git_dir), "ls-tree", "-r", "--name-only", without.tree
    ).split()
    assert "README.md" not in names
    assert "toy/order.py" in names
    assert without.tree != bench.seal.tree


def test_an_omit_that_matches_nothing_is_an_error(bench: Bench) -> None:
    with pytest.raises(UsageError, match="matches no file"):
        seal(bench.source, ("no-such-file",), bench.settings.cache)


def test_a_store_that_lacks_a_blob_names_the_file(bench: Bench, tmp_path: Path) -> None:
    repo = bench.task.folder / "repo"
    blob = git(repo, "rev-parse", f"{bench.source.base}:README.md")
    (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(UsageError, match=r"lacks 1 object.*README\.md"):
        seal(bench.source, (), tmp_path / "cache")
    assert seal(bench.source, ("README.md",), tmp_path / "cache").tree


def test_half_made_seals_are_never_used(bench: Bench, tmp_path: Path) -> None:
    broken = replace(bench.source, base="0" * 40)
    with pytest.raises(Exception, match="git rev-list failed"):
        seal(broken, (), tmp_path / "cache")
    left = [path for path in (tmp_path / "cache" / "seals").iterdir() if path.suffix != ".lock"]
    assert left == []


def test_two_processes_may_make_one_seal_at_once(bench: Bench, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from omniperf.workspace.seal import seal; "
        "from omniperf.workspace.source import Source; "
        "print(seal(Source(Path(sys.argv[1]), sys.argv[2], None, 'x'), (), Path(sys.argv[3])).tree)"
    )
    import sys

    arguments = (str(bench.source.git_dir), bench.source.base, str(tmp_path / "cache"))
    started = [
        subprocess.Popen((sys.executable, "-c", program, *arguments), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert {process.communicate()[0].strip() for process in started} == {bench.seal.tree}


def test_an_index_is_read_as_json_and_as_html() -> None:
    sdist = {"filename": "a b-1.tar.gz", "url": "../../packages/a%20b-1.tar.gz", "hashes": {"sha256": "00ff"}}
    html = '<html><body><a href="../../packages/a%20b-1.tar.gz#sha256=00ff" data-requires-python="&gt;=3">a</a></body>'
    assert listed_files(html, "text/html") == [sdist]
    assert listed_files(json.dumps({"files": [sdist]}), "application/vnd.pypi.simple.v1+json") == [sdist]


@pytest.mark.parametrize("name", ["../out", "/out", "a/link"])
def test_an_sdist_leaves_nothing_outside_and_no_link(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "in" / "a-1.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo(name)
        if name.endswith("link"):
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member)
    with pytest.raises(UsageError, match="no plain file"):
        _unpack(archive, tmp_path / "in" / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
