"""Files that survive a kill: written whole or not at all, or appended a line at a time; and finding them again."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import secrets
import stat
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omniperf.errors import InfraError, OmniPerfError, UsageError
from omniperf.results.redact import clean, known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from omniperf.results.schema import Imported, Result, Start, Verification
    from omniperf.settings import Settings

T = TypeVar("T")
Record = TypeVar("Record", "Result", "Start", "Verification", "Imported")

LARGEST = 256 * 2**20
"""Bytes of a record, a patch or a line that is read whole."""

RESULT, IMPORTED = "result.json", "imported.json"
RUN_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


def check_folders(settings: Settings, names: tuple[str, ...] = ("results", "worktrees", "cache")) -> None:
    """Raise UsageError where a run could not write what it makes; `names` are the folders that are written to."""
    for name in names:
        folder: Path = getattr(settings, name)
        if not can_hold(folder):
            raise UsageError(
                f"Nothing can be written to {folder}, where {name} go.", f"Name another folder with --{name}."
            )


def check_output(path: Path | None, flag: str, *, folder: bool = False) -> None:
    """Raise UsageError where a file, or a folder with files, that a flag names could not be written."""
    if path is None:
        return
    there = not folder and os.path.exists(path)
    if not (not path.is_dir() and os.access(path, os.W_OK) if there else can_hold(path if folder else path.parent)):
        what = "folder" if folder else "file"
        raise UsageError(f"{path} cannot be written.", f"Name another {what} with {flag}.")


def can_hold(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made itself where it is not there yet."""
    nearest = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    kept_by_the_kernel = any(nearest.resolve().is_relative_to(top) for top in ("/proc", "/sys"))
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK) and not kept_by_the_kernel


def write_whole(path: Path, data: bytes, *, exact: bool = False) -> None:
    """Write a file so that a reader, or a restart after a kill, sees the old content or the new, never a part.

    Secrets are taken out; of an `exact` one, whose bytes are hashed, only those of this process. Makes the folders above
    it. Raises InfraError (disk) when there is no room.
    """
    data = (known if exact else clean)(data.decode("latin-1")).encode("latin-1")
    with disk_errors(path):
        scratch = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        try:
            with _made(lambda: scratch.open("xb"), path.parent) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def append_line(path: Path, record: Mapping[str, object], *, exact: bool = False) -> None:
    """Append one JSON record to a `.jsonl` file; writers in several processes do not mix their lines.

    Secrets are taken out as in `write_whole`.
    """
    with disk_errors(path):
        descriptor = open_lines(path)
        try:
            append_record(descriptor, record, exact=exact)
        finally:
            os.close(descriptor)


def open_lines(path: Path) -> int:
    """Open a `.jsonl` file for `append_record`, making the folders above it; the caller closes the descriptor."""
    return _made(lambda: os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666), path.parent)


def _made(opened: Callable[[], T], folder: Path) -> T:
    """What is opened in a folder, which is only made where it is not there: that it is, is the rule."""
    try:
        return opened()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        return opened()


def append_record(descriptor: int, record: Mapping[str, object], *, exact: bool = False) -> None:
    """Append one record with one write. A torn line that a killed writer left behind is cut off first."""
    line = (known if exact else clean)(_text(record)).encode() + b"\n"
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        end = _end_of_whole_lines(descriptor)
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def read_plain(path: Path, most: int = LARGEST) -> bytes:
    """Read a file that somebody else may have made, whole: no link, pipe or device, and none too large.

    Raises OSError where it is not there, OmniPerfError where it is none of these.
    """
    remedy = "It was not written by OmniPerf; look at it by hand."
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise OmniPerfError(f"{path} is a link or no file.", remedy) from None
        raise
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise OmniPerfError(f"{path} is no file.", remedy)
        if about.st_size > most:
            raise OmniPerfError(f"{path} has {about.st_size:,} bytes, more than {most:,}.", remedy)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a `.jsonl` file. A torn last line was never written; a missing file has no lines."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("not an object")
            except (ValueError, RecursionError) as error:
                raise OmniPerfError(
                    f"{path}:{number} is not a JSON record ({error}).",
                    "The file was changed by hand; restore that line.",
                ) from None
            yield record


def new_run_id(now: datetime | None = None) -> str:
    """Return a fresh run id such as `20261121-104500-3f2a`: UTC time, then chance, so that ids sort by time."""
    return f"{(now or datetime.now(UTC)).astimezone(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def find_run(settings: Settings, run: str, records: tuple[str, ...] = (RESULT,)) -> Path:
    """Return the folder of a run: its id, a prefix of it that fits no other, or `latest` (that has such a record)."""
    runs = run_folders(settings)
    if run == "latest":
        if not runs:
            raise UsageError(
                f"There is no run under {settings.results} yet.",
                "Start one with `omniperf run TASK`, or name --results.",
            )
        return next((run for run in reversed(runs) if attempt_folders(run, records)), runs[-1])
    exact = [folder for folder in runs if folder.name == run]
    found = exact or [folder for folder in runs if run and folder.name.startswith(run)]
    if not found:
        newest = ", ".join(folder.name for folder in runs[:-4:-1])
        raise UsageError(
            f"Under {settings.results} no run, and no task of a run, is called {run!r}.",
            f"The newest runs are {newest}." if runs else "Nothing has been run there yet.",
        )
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found[:4]) + (", ..." if len(found) > 4 else "")
        raise UsageError(f"{run!r} fits {len(found)} runs: {names}.", "Give more of the id.")
    return found[0]


def find_sweep(settings: Settings, run: str) -> Path:
    """Return the folder of a sweep, named as for `find_run`; `latest` is the newest, whether it has a result or none."""
    sweeps = [folder for folder in run_folders(settings) if (folder / "plan.json").is_file()]
    return sweeps[-1] if run == "latest" and sweeps else find_run(settings, run)


def run_folders(settings: Settings) -> list[Path]:
    """Return the folders of all runs, oldest first."""
    if not settings.results.is_dir():
        return []
    runs = [folder for folder in settings.results.iterdir() if RUN_ID.fullmatch(folder.name) and folder.is_dir()]
    return sorted(runs, key=lambda folder: (folder.name[:15], folder.stat().st_mtime_ns))


def attempt_folders(run: Path, records: tuple[str, ...] = (RESULT,)) -> list[Path]:
    """Return the folders of a run's finished attempts: those that hold such a record."""
    return sorted({path.parent for record in records for path in run.glob(f"*/*/{record}")})


def find_attempts(settings: Settings, what: str, records: tuple[str, ...] = (RESULT,)) -> list[Path]:
    """Return the attempt folders that `what` means, never none: those that hold one of the records.

    It may be a path (of a result.json, an attempt, or a run), a run as `find_run` takes it, `RUN/TASK` or
    `RUN/TASK/LABEL.N`, or a task's id: then its attempts in the latest run that has any.
    """
    path = Path(what)
    if path.name in records and path.is_file():
        return [path.parent]
    if any((path / record).is_file() for record in records):
        return [path]
    if path.is_dir() and (found := attempt_folders(path, records)):
        return found
    run, _, rest = what.partition("/")
    if not rest:
        for folder in reversed(run_folders(settings)):
            if found := [attempt for attempt in attempt_folders(folder, records) if attempt.parent.name == what]:
                return found
    folder = find_run(settings, run, records)
    found = [
        attempt
        for attempt in attempt_folders(folder, records)
        if not rest or rest.rstrip("/") in (attempt.parent.name, f"{attempt.parent.name}/{attempt.name}")
    ]
    if not found:
        raise UsageError(
            f"Run {folder.name} has no result {'of ' + rest if rest else 'yet'}.",
            f"See `omniperf show {folder.name}`." if rest else "Wait for an attempt to end.",
        )
    return found


def load_result(path: Path) -> Result:
    """Read a `result.json`, or the one in an attempt's folder."""
    from omniperf.results.schema import Result

    return load_record(path / "result.json" if path.is_dir() else path, Result)


def load_record(file: Path, kind: type[Record]) -> Record:
    """Read a file that holds one record of that kind."""
    from pydantic import ValidationError

    try:
        return kind.model_validate_json(read_plain(file))
    except FileNotFoundError:
        raise UsageError(f"There is no {file}.", f"Name an attempt's folder or its {file.name}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        schema = kind.model_fields["schema_"].default
        raise OmniPerfError(
            f"{file} is not a valid {schema}: {where}: {first['msg']}.",
            "It was changed, or written by another version of OmniPerf; read it with that version.",
        ) from None


def _text(record: Mapping[str, object]) -> str:
    try:
        return json.dumps(record, separators=(",", ":"), allow_nan=False)
    except ValueError:  # NaN and infinity are not JSON; losing the record would be worse than losing the number
        return json.dumps(_finite(record), separators=(",", ":"), allow_nan=False)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _end_of_whole_lines(descriptor: int) -> int:
    """Cut off a torn last line and return the file's size. Holding the lock proves that nobody is still writing it."""
    size = end = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    os.ftruncate(descriptor, end)
    return end


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk into an InfraError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InfraError(
                "disk", f"{path} could not be written: the disk is full.", "Make room and run again."
            ) from error
        raise
