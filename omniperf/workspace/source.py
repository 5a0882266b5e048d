"""Where a task's commits come from: a mirror, the repository cache, a local repository, a plain folder, an sdist."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zlib
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from omniperf.errors import InfraError, UsageError
from omniperf.results.redact import keyless
from omniperf.tasks.globs import matches
from omniperf.tasks.new import UNFILLED_BASE, UNFILLED_URL
from omniperf.workspace.lock import locked
from omniperf.workspace.plumbing import EXACT_BYTES, IDENTITY, GitError, git, is_git, text

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

_GENERATED = "__pycache__/\n*.py[cod]\n.pytest_cache/\n.mypy_cache/\n.ruff_cache/\n"
_LISTINGS = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_SDIST_FILES, _SDIST_BYTES = 20_000, 512 * 2**20
_SDIST_SMALL, _SDIST_RATIO = 16 * 2**20, 100  # bytes that any archive may hold, and by how much more it may shrink
_LISTING_BYTES = 64 * 2**20

# What was being unpacked when somebody pressed Ctrl-C would stay so, by half.
_AS_A_PACK = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "fetch.unpackLimit", "GIT_CONFIG_VALUE_0": "1"}


@dataclass(frozen=True)
class Source:
    """A git object store that holds a task's base, and its human commit where it has one.

    `label` names the origin for people; `version` is upstream's own description of base (`v3.4-12-gabc`), or "".
    `uncommitted`: base is whatever is checked out, and files there differ from it.
    """

    git_dir: Path
    base: str
    human: str | None
    label: str
    version: str = ""
    uncommitted: bool = False


def resolve_source(task: Task, settings: Settings) -> Source:
    """Find the task's repository, fetching it into the cache where it is not at hand.

    Raises UsageError for a commit that does not exist, InfraError where the network is needed and fails.
    """
    repo = task.repo
    if repo is None:
        raise UsageError(
            f"Task {task.id} is prompt-only: it names no repo.", "Give it a `repo`, targets and a workload."
        )
    if repo.url == UNFILLED_URL or (repo.url and repo.base == UNFILLED_BASE):
        said = f"Task {task.id}: `repo` is still as `omniperf tasks new` writes it."
        raise UsageError(said, "Fill in `repo`: where the code is, and the commit to start from as `base`.")
    if repo.url:
        return _from_url(task, settings)
    if repo.pypi:
        return _from_pypi(repo.pypi, settings)
    folder = (task.folder / str(repo.path)).resolve()
    if not folder.is_dir():
        raise UsageError(f"Task {task.id}: repo.path {folder} is not a folder.", "Correct `repo.path`.")
    git_dir = _git_dir_of(folder)
    if git_dir is None:
        if repo.base:
            raise UsageError(
                f"Task {task.id}: {folder} is a plain folder, so it has no commit {repo.base}.",
                "Drop `base`, or point `repo.path` at a git repository.",
            )
        return _from_folder(folder, settings, label=str(repo.path))
    source = _commits(task, git_dir, str(repo.path), repo.base or "HEAD")
    return source if repo.base else replace(source, uncommitted=_uncommitted(git_dir, folder))


def _uncommitted(git_dir: Path, folder: Path) -> bool:
    """Whether a checkout of this user's has changes. In another's, git could be made to start a program for that."""
    if git_dir == folder or folder.stat().st_uid != os.getuid():
        return False
    asked = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
    return bool(git(*asked, git_dir=git_dir, work_tree=folder))


def mirror_of(url: str, mirrors: tuple[str, ...]) -> Path | None:
    """The first mirror that holds the repository of that URL.

    A mirror is a folder, tried as FOLDER/HOST/OWNER/NAME and FOLDER/OWNER/NAME (each also with `.git`), or a template
    with {host}, {owner} and {name}.
    """
    for stem in _in_mirrors(url, mirrors):
        for candidate in (stem, stem.with_name(stem.name + ".git")):
            git_dir = _git_dir_of(candidate)
            if git_dir is not None:
                return git_dir
    return None


def _in_mirrors(url: str, mirrors: tuple[str, ...]) -> list[Path]:
    """Where the repository of that URL may be."""
    parts = urlsplit(url)
    path = parts.path.strip("/").removesuffix(".git")
    owner, _, name = path.rpartition("/")
    fields = {"host": parts.hostname or "", "owner": owner, "name": name}
    tails = {mirror: ("",) if "{" in mirror else ("/{host}/{owner}/{name}", "/{owner}/{name}") for mirror in mirrors}
    return [Path((mirror + tail).format(**fields)).expanduser() for mirror in mirrors for tail in tails[mirror]]


def _git_dir_of(folder: Path) -> Path | None:
    """The git folder of a repository whose top is that folder, or None."""
    for candidate in (folder / ".git", folder):
        if (candidate / "HEAD").is_file() and (candidate / "objects").is_dir():
            return candidate
    if (folder / ".git").is_file():  # a linked worktree or a submodule
        return Path(text(git("-C", str(folder), "rev-parse", "--absolute-git-dir")))
    return None


def _commits(task: Task, git_dir: Path, label: str, base: str) -> Source:
    """Resolve base and human in a repository that is at hand."""
    found: dict[str, str] = {}
    for role, revision in (("base", base), ("human", task.repo.human if task.repo else None)):
        if revision is None:
            continue
        try:
            found[role] = text(
                git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}", git_dir=git_dir)
            )
        except GitError:
            raise UsageError(
                f"Task {task.id}: {role} {revision} is not a commit of {label}.", f"Correct `repo.{role}`."
            ) from None
    return Source(git_dir, found["base"], found.get("human"), label, _describe(git_dir, found["base"]))


def _describe(git_dir: Path, commit: str) -> str:
    """Upstream's version of a commit; "" where history or tags are missing."""
    try:
        return text(git("describe", "--tags", commit, git_dir=git_dir))
    except GitError:
        return ""


def _from_url(task: Task, settings: Settings) -> Source:
    repo = task.repo
    assert repo is not None
    assert repo.url is not None
    assert repo.base is not None
    mirror = mirror_of(repo.url, settings.mirrors)
    if mirror is not None:
        return _commits(task, mirror, repo.url, repo.base)
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", urlsplit(repo.url).path.strip("/"))
    cached = settings.cache / "repos" / f"{name}-{hashlib.sha256(repo.url.encode()).hexdigest()[:12]}.git"
    with locked(cached.with_suffix(".lock")):
        if not (cached / "HEAD").is_file():
            git("init", "-q", "--bare", str(cached))
        for revision in filter(None, (repo.base, repo.human)):
            try:
                git("cat-file", "-e", f"{revision}^{{commit}}", git_dir=cached)
                continue
            except GitError:
                pass
            try:
                if re.fullmatch(r"[0-9a-f]{40}", revision):  # one commit is enough, history is not needed
                    git(
                        "fetch", "-q", "--no-tags", "--depth=1", repo.url, revision,
                        git_dir=cached, network=True, env=_AS_A_PACK,
                    )  # fmt: skip
                else:  # an abbreviated sha, a tag or a branch can only be found in the whole history
                    refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
                    git(
                        "fetch", "-q", "--filter=blob:none", repo.url, *refs,
                        git_dir=cached, network=True, env=_AS_A_PACK,
                    )  # fmt: skip
            except GitError as error:
                tried = " or ".join(str(path) for path in _in_mirrors(repo.url, settings.mirrors))
                mirrored = f"put a clone at {tried}" if tried else "name a local mirror in OMNIPERF_MIRRORS"
                raise InfraError(
                    "network",
                    f"{repo.url} could not be fetched ({error.message.removeprefix('git fetch failed: ')}).",
                    f"Check the network, or {mirrored}.",
                ) from error
    return _commits(task, cached, repo.url, repo.base)


def _from_folder(folder: Path, settings: Settings, label: str) -> Source:
    """Make a plain folder into a repository of one commit. Equal folders give equal commits."""
    cached = settings.cache / "repos" / f"folder-{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}.git"
    with locked(cached.with_suffix(".lock")):
        if not (cached / "HEAD").is_file():
            git("init", "-q", "--bare", str(cached))
        (cached / "info").mkdir(exist_ok=True)
        (cached / "info" / "attributes").write_text(EXACT_BYTES)
        (cached / "info" / "exclude").write_text(_GENERATED)
        with tempfile.TemporaryDirectory(dir=cached) as scratch:
            index = Path(scratch) / "index"
            git("add", "-A", ".", git_dir=cached, work_tree=folder, index=index)
            tree = text(git("write-tree", git_dir=cached, index=index))
        commit = text(git("commit-tree", tree, "-m", "base", git_dir=cached, env=IDENTITY))
        git("update-ref", "refs/heads/base", commit, git_dir=cached)
    return Source(cached, commit, None, label)


def _from_pypi(requirement: str, settings: Settings) -> Source:
    """Download an sdist once and make it into a repository of one commit."""
    name, _, version = requirement.partition("==")
    unpacked = settings.cache / "sdists" / f"{name}-{version}"
    with locked(unpacked.with_suffix(".lock")):
        if not unpacked.is_dir():
            with tempfile.TemporaryDirectory(dir=unpacked.parent) as scratch:
                _download_sdist(requirement, Path(scratch))
                _unpack(next(Path(scratch).glob("*.tar.gz")), Path(scratch) / "tree")
                (Path(scratch) / "tree").rename(unpacked)
    source = _from_folder(unpacked, settings, label=f"pypi:{requirement}")
    return Source(source.git_dir, source.base, None, source.label, version)


def _download_sdist(requirement: str, folder: Path) -> None:
    """Fetch an sdist from the package index that pip uses, as it is: `pip download` would run code of the package."""
    name, _, version = requirement.partition("==")
    index = f"{_index_url().rstrip('/')}/{canonicalize_name(name)}/"
    try:
        request = urllib.request.Request(index, headers={"Accept": _LISTINGS})  # noqa: S310
        with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
            files = listed_files(reply.read(_LISTING_BYTES).decode(), reply.headers.get_content_type())
        found = next((file for file in files if _is_sdist(file["filename"], name, version)), None)
        if found is None:
            raise UsageError(
                f"The index has no .tar.gz sdist of {requirement}.", "Check name and version of `repo.pypi`."
            )
        with urllib.request.urlopen(urllib.parse.urljoin(index, found["url"]), timeout=60) as reply:  # noqa: S310
            data = reply.read(_SDIST_BYTES)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InfraError(
            "network",
            f"The sdist of {requirement} could not be downloaded ({error}).",
            "Check the network and pip's index-url (PIP_INDEX_URL).",
        ) from error
    if hashlib.sha256(data).hexdigest() != found["hashes"].get("sha256"):
        raise InfraError("network", f"The sdist of {requirement} does not have the index's hash.", "Try again.")
    (folder / found["filename"]).write_bytes(data)


def listed_files(listing: str, content_type: str) -> list[dict[str, Any]]:
    """The files on an index's page of a project: their `filename`, `url` and `hashes`.

    A page is JSON (PEP 691), or HTML whose links carry the hash as fragment (PEP 503): many mirrors have only that.
    """
    if content_type.endswith("json"):
        files: list[dict[str, Any]] = json.loads(listing)["files"]
        return files
    links = _Links()
    links.feed(listing)
    found = []
    for link in links.found:
        url, _, fragment = link.partition("#")
        kind, _, digest = fragment.partition("=")
        filename = urllib.parse.unquote(url.rpartition("/")[2])
        found.append({"filename": filename, "url": url, "hashes": {kind: digest}})
    return found


class _Links(HTMLParser):
    """Collects where a page's links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _is_sdist(filename: str, name: str, version: str) -> bool:
    try:
        found_name, found_version = parse_sdist_filename(filename)
        wanted = Version(version)
    except (InvalidSdistFilename, InvalidVersion):
        return False
    return filename.endswith(".tar.gz") and (found_name, found_version) == (canonicalize_name(name), wanted)


def _index_url() -> str:
    """The index that pip is configured to use."""
    if configured := os.environ.get("PIP_INDEX_URL"):
        return configured
    said = subprocess.run(
        (sys.executable, "-m", "pip", "config", "get", "global.index-url"),
        capture_output=True,
        text=True,
        check=False,
        env=keyless(),
    )
    if said.returncode == 0 and said.stdout.strip():
        return said.stdout.strip()
    default = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    said = subprocess.run((sys.executable, "-c", default), capture_output=True, text=True, check=False, env=keyless())
    if said.returncode != 0:
        raise InfraError("missing_dep", "pip was not found, so no package index is known.", "Set PIP_INDEX_URL.")
    return said.stdout.strip()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack an untrusted sdist: one top folder, bounded, regular files and folders alone, no path that leaves it."""
    inside = folder.with_name("unpacked")
    try:
        with gzip.open(archive) as data, tarfile.open(mode="r|", fileobj=_Bounded(data, archive)) as tar:
            _unpack_members(tar, archive.name, inside)
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        said = f"{archive.name} cannot be unpacked ({type(error).__name__}: {error})."
        raise UsageError(said, "Use a git repository.") from None
    tops = list(inside.iterdir()) if inside.is_dir() else []
    if len(tops) != 1 or not tops[0].is_dir():
        raise UsageError(f"{archive.name} is not an sdist: it must hold one folder.", "Use a git repository.")
    shutil.move(tops[0], folder)


class _Bounded(io.RawIOBase):
    """What an archive holds, as far as it may: no more than a repository, nor than what ordinary files shrink to."""

    def __init__(self, stream: gzip.GzipFile, archive: Path) -> None:
        self._stream, self._name = stream, archive.name
        self._left = min(_SDIST_BYTES + 1024 * _SDIST_FILES, _SDIST_SMALL + _SDIST_RATIO * archive.stat().st_size)

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._name)
        return data


def _too_large(name: str) -> UsageError:
    return UsageError(f"{name} is too large to be a task's repo.", "Use a git repository.")


def _unpack_members(tar: tarfile.TarFile, archive: str, inside: Path) -> None:
    total = 0
    for count, member in enumerate(tar):
        total += member.size
        if count >= _SDIST_FILES or total > _SDIST_BYTES:
            raise _too_large(archive)
        path = PurePosixPath(member.name)
        outside = path.is_absolute() or ".." in path.parts or is_git(member.name)
        if outside or member.size < 0 or not (member.isfile() or member.isdir()):
            raise UsageError(f"{archive} holds {member.name!r}, no plain file in it.", "Use a git repository.")
        target = inside / path
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with tar.extractfile(member) as source, target.open("wb") as file:  # type: ignore[union-attr]
            shutil.copyfileobj(source, file)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)


def human_patch(task: Task, source: Source) -> bytes | None:
    """The reference as a diff against base, limited to what the task's targets allow; None where there is none.

    Upstream commits also touch change logs and tests; those are no part of an optimization.
    """
    if task.repo is not None and task.repo.human_patch:
        return (task.folder / task.repo.human_patch).read_bytes()
    if source.human is None:
        return None
    pair = (source.base, source.human)
    changed = git("diff-tree", "-r", "-z", "--name-only", "--no-renames", *pair, git_dir=source.git_dir)
    names = changed.decode("utf-8", "surrogateescape").split("\0")
    paths = [path for path in names if path and matches(path, task.targets)]
    if not paths:
        return None
    pathspec = ("--", *(f":(literal){path}" for path in paths))
    return git("diff-tree", "-p", "--binary", "--full-index", "--no-ext-diff", *pair, *pathspec, git_dir=source.git_dir)
