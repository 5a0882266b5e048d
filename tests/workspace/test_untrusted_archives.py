"""Archives and patches of others: nothing leaves its folder, and nothing grows beyond bounds."""

from __future__ import annotations

import gzip
import io
import resource
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.workspace.patch import PatchDoesNotApplyError, parse
from omniperf.workspace.source import _unpack

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.measure.bench import Bench


def member(name: str, data: bytes = b"x", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def archive(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    folder.mkdir()
    file = folder / "a-1.tar.gz"
    with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return file


LINK = {"size": 0, "linkname": "/etc"}
MEMBERS = {
    "a path that leaves": ([member("a/../../out")], "no plain file"),
    "an absolute path": ([member("/tmp/out")], "no plain file"),
    "a link": ([member("a/link", b"", type=tarfile.SYMTYPE, **LINK)], "no plain file"),
    "a hard link": ([member("a/link", b"", type=tarfile.LNKTYPE, **LINK)], "no plain file"),
    "a device": ([member("a/null", b"", type=tarfile.CHRTYPE)], "no plain file"),
    "a pipe": ([member("a/pipe", b"", type=tarfile.FIFOTYPE)], "no plain file"),
    "a repository inside": ([member("a/sub/.git/config")], "no plain file"),
    "a repository by another name": ([member("a/sub/.GIT/hooks/post-checkout")], "no plain file"),
    "a file as a folder": ([member("a/b"), member("a/b/c")], "cannot be unpacked"),
    "a name that is too long": ([member("a/" + "b" * 5000)], "cannot be unpacked"),
    "no folder": ([member("a")], "must hold one folder"),
    "nothing": ([], "must hold one folder"),
    "too many files": ([member(f"a/{n}", b"") for n in range(20_001)], "is too large"),
    "a bomb of zeros": ([member("a/zeros", bytes(64 * 2**20))], "is too large"),
}


@pytest.mark.parametrize("what", MEMBERS)
def test_an_archive_that_is_no_sdist_is_refused(tmp_path: Path, what: str) -> None:
    members, said = MEMBERS[what]
    file = archive(tmp_path / "in", *members)
    with pytest.raises(UsageError, match=said):
        _unpack(file, tmp_path / "in" / "tree")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert not (tmp_path / "in" / "tree").exists()


def test_what_shrinks_like_ordinary_files_is_unpacked(tmp_path: Path) -> None:
    file = archive(tmp_path / "in", member("a/b.py", b"x = 1\n" * 100_000), member("a/run.sh", mode=0o4755))
    _unpack(file, tmp_path / "in" / "tree")
    assert (tmp_path / "in/tree/b.py").stat().st_size == 600_000
    assert (tmp_path / "in/tree/run.sh").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    "data",
    [b"no gzip", gzip.compress(b"no tar"), gzip.compress(b"x" * 5000)[:-20], b""],
    ids=["no gzip", "no tar", "cut short", "empty"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "a-1.tar.gz"
    file.write_bytes(data)
    with pytest.raises(UsageError, match=r"cannot be unpacked|must hold one folder"):
        _unpack(file, tmp_path / "tree")


def test_a_header_as_large_as_memory_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 400 * 2**20
    file = tmp_path / "a-1.tar.gz"
    with gzip.open(file, "wb", 1) as stream:
        stream.write(header.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(400):
            stream.write(bytes(2**20))
    program = (
        "import sys; from pathlib import Path; from omniperf.workspace.source import _unpack; "
        "_unpack(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    limit = 600 * 2**20

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    done = subprocess.run(
        (sys.executable, "-c", program, str(file), str(tmp_path / "tree")), capture_output=True, text=True,
        preexec_fn=bound,
    )  # fmt: skip
    assert "is too large to be a task's repo" in done.stderr.splitlines()[-1]


def new_file(path: str, mode: int = 100644, text: str = "x") -> str:
    header = f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
    return f"{header}@@ -0,0 +1 @@\n+{text}\n\\ No newline at end of file\n"


PATCHES = {
    "leaves the tree": new_file("../escape.py"),
    "leaves it from within": new_file("toy/../../escape.py"),
    "into git": new_file(".git/hooks/pre-commit"),
    "into git by another case": new_file("toy/.GIT/config"),
    "into git by a short name": new_file("git~1/config"),
    "through a link that it makes": new_file("toy/out", 120000, "/tmp") + new_file("toy/out/escape.py"),
    "a rename out of the tree": "diff --git a/toy/order.py b/../x\nsimilarity index 100%\nrename from toy/order.py\n"
    "rename to ../x\n",
}


@pytest.mark.parametrize("what", PATCHES)
def test_a_patch_that_would_write_elsewhere_does_not_apply(bench: Bench, tmp_path: Path, what: str) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PatchDoesNotApplyError, match="does not apply"):
        parse(bench.seal, PATCHES[what].encode())
    assert sorted(tmp_path.iterdir()) == before


def test_names_that_git_reads_otherwise_stay_inside_and_are_judged_as_read(bench: Bench) -> None:
    absolute = new_file("/tmp/escape.py").replace("a//", "/").replace("b//", "/")
    nul = new_file("x").replace("a/x", '"a/toy/a\\000b.py"').replace("b/x", '"b/conf\\000.py"')
    assert [file.path for file in parse(bench.seal, absolute.encode()).files] == ["tmp/escape.py"]
    assert [file.path for file in parse(bench.seal, nul.encode()).files] == ["conf"]


def test_the_largest_names_and_counts_of_a_patch_are_refused_in_one_sentence(bench: Bench) -> None:
    text = "--- a/toy/order.py\n+++ b/toy/order.py\n@@ -1,99999999999999999999 +1,3 @@\n x\n"
    with pytest.raises(PatchDoesNotApplyError, match="does not apply") as caught:
        parse(bench.seal, text.encode())
    assert "\n" not in str(caught.value)
