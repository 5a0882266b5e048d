"""Find and read task files, with errors that name file, line and remedy."""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from pydantic import ValidationError

from omniperf.errors import UsageError
from omniperf.shipped import shipped
from omniperf.tasks.plain_yaml import NotPlainError, parse
from omniperf.tasks.schema import SCHEMA, Model, Task
from omniperf.tasks.validation import Problem, problems

if TYPE_CHECKING:
    from omniperf.settings import Settings
    from omniperf.tasks.plain_yaml import Document, Location

_SHOWN_PROBLEMS = 6

Record = TypeVar("Record", bound=Model)
Kind: TypeAlias = Literal["module", "script", "command", "service"]


@dataclass(frozen=True)
class TaskEntry:
    """One line of `tasks list`: `task` is None where the file has errors, and `error` says which."""

    name: str
    path: Path
    origin: Literal["local", "shipped"]
    task: Task | None
    error: str = ""


def load_task(name_or_path: str, settings: Settings) -> Task:
    """Load a task by name, or by the path of its file or folder.

    A name is looked up in the tasks folder (`./tasks`), then among the tasks that come with OmniPerf, in both also in
    groups: folders without a task file of their own, such as `seeds/`. Besides the schema, this checks all that needs
    no repository: the files that the task names are there, and the workload parses and is of the declared kind. Raises
    UsageError.
    """
    return _read(task_file(name_or_path, settings))


def task_file(name_or_path: str, settings: Settings) -> Path:
    """Return the path of a task's file, by name or path as `load_task` takes it."""
    path = Path(name_or_path)
    if "/" in name_or_path or path.suffix in (".yaml", ".yml") or name_or_path in (".", ".."):
        file = path / "task.yaml" if path.is_dir() else path
        if not file.is_file():
            raise UsageError(
                f"There is no task file {_shown(file)}.", "Name a task.yaml, its folder, or a task's name."
            )
        return file
    for folder in (settings.tasks, shipped("tasks"), Path()):
        if (file := folder / name_or_path / "task.yaml").is_file():
            return file
    files = {file.parent.name: file for file, _ in reversed(_task_files(settings))}  # the first of a name wins
    if name_or_path in files:  # in a group
        return files[name_or_path]
    near = get_close_matches(name_or_path, files, 1, cutoff=0.5)
    raise UsageError(
        f"There is no task {name_or_path!r} in {_shown(settings.tasks)} or among those that come with OmniPerf.",
        (f"Did you mean {near[0]!r}? " if near else "") + "`omniperf tasks list` shows what there is.",
    )


def list_tasks(settings: Settings) -> list[TaskEntry]:
    """Return every task that can be named, sorted; a file with errors is an entry too. A local task hides a shipped."""
    entries: dict[str, TaskEntry] = {}
    for file, origin in _task_files(settings):
        name = file.parent.name
        if name not in entries:
            try:
                entries[name] = TaskEntry(name, file, origin, _read(file))
            except UsageError as error:
                entries[name] = TaskEntry(name, file, origin, None, str(error))
    return sorted(entries.values(), key=lambda entry: entry.name)


def workload_kind(task: Task) -> Kind:
    """Return which kind the workload is: a module defines functions `setup` and `run` at its top level.

    Raises UsageError where the file is missing, does not parse, or is declared a module and is none.
    """
    assert task.workload is not None
    stated = task.workload.stated_kind
    if stated != "file":
        return stated
    assert task.workload.file is not None
    file = task.folder / task.workload.file
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as error:
        raise UsageError(f"{_shown(file)}:{error.lineno or 1}: {error.msg}.", "Correct the workload.") from None
    except (RecursionError, MemoryError):
        raise UsageError(f"{_shown(file)}: nested too deeply to be read.", "Simplify the workload.") from None
    except ValueError as error:  # null bytes
        raise UsageError(f"{_shown(file)}: not Python: {error}.", "Correct the workload.") from None
    except OSError as error:
        raise UsageError(f"{_shown(file)}: {error.strerror}.", "Write the workload there.") from None
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    missing = {"setup", "run"} - defined
    # A file with one half of a module is a module with a slip, not a script that happens to define it.
    meant = task.workload.kind or ("module" if defined & {"setup", "run", "export", "check"} else None)
    if meant == "module" and missing and task.workload.kind != "script":
        names = " and ".join(sorted(missing))
        raise UsageError(
            f"{_shown(file)}: a module workload defines setup(seed) and run(state); it lacks {names}.",
            "Define them at the top level, or declare `kind: script`.",
        )
    return task.workload.kind or ("script" if missing else "module")


def task_sha256(task: Task) -> str:
    """Return the hash of all that a task says: its canonical JSON, and the bytes of the files that it names.

    Two task files that differ only in layout or comments have one hash; it does not depend on where they are.
    """
    digest = hashlib.sha256(SCHEMA.encode())
    canonical = json.dumps(task.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
    for part in (canonical.encode(), *((task.folder / name).read_bytes() for name in _named_files(task).values())):
        digest.update(len(part).to_bytes(8, "big"))  # so that no two lists of parts run together
        digest.update(part)
    return digest.hexdigest()


def published_schema() -> dict[str, Any]:
    """Return the JSON Schema of a task file, as published in `docs/schema/task.v1.json`."""
    schema = Task.model_json_schema(by_alias=True)
    workload = schema["properties"]["workload"]
    workload["anyOf"].insert(0, {"type": "string", "description": "short for {file: ...}"})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **schema}


def _task_files(settings: Settings) -> list[tuple[Path, Literal["local", "shipped"]]]:
    local = [(file, "local") for file in _files_below(settings.tasks)]
    ours = [(file, "shipped") for file in _files_below(shipped("tasks"))]
    known = {file.resolve() for file, _ in ours}  # in a checkout the two folders are one
    return [entry for entry in local if entry[0].resolve() not in known] + ours  # type: ignore[return-value]


def _files_below(folder: Path) -> list[Path]:
    """The task files of a folder, then those of the groups in it."""
    tasks = sorted(folder.glob("*/task.yaml"))
    alone = {file.parent for file in tasks}
    return tasks + [file for file in sorted(folder.glob("*/*/task.yaml")) if file.parent.parent not in alone]


def read_record(file: Path, kind: type[Record], schema: str) -> tuple[Record, Document]:
    """Read a YAML file that holds one record. Raises UsageError with the line of each error."""
    try:
        document = parse(file.read_bytes())
    except NotPlainError as error:
        raise UsageError(f"{_shown(file)}:{error.line}: {error.message}.", error.remedy) from None
    except FileNotFoundError:
        raise UsageError(f"There is no file {_shown(file)}.", "Name one that exists.") from None
    except OSError as error:
        raise UsageError(f"{_shown(file)} cannot be read: {error.strerror}.", "Make it readable.") from None
    if not isinstance(document.value, dict):
        raise UsageError(
            f"{_shown(file)}:{document.line(())}: it has to be a mapping of keys to values.",
            f"Begin it with `schema: {schema}`.",
        )
    try:
        return kind.model_validate(document.value), document
    except ValidationError as error:
        raise _as_usage_error(file, problems(error, document, kind)) from None


def _read(file: Path) -> Task:
    task, document = read_record(file, Task, SCHEMA)
    task._folder = file.parent.resolve()
    _check_files(task, file, document)
    return task


def _check_files(task: Task, file: Path, document: Document) -> None:
    """Check the files that a task names beside itself."""
    for location, name in _named_files(task).items():
        if not (task.folder / name).resolve().is_relative_to(task.folder):
            said = f"{'.'.join(map(str, location))}: {name} is a link that leads away"
            raise _as_usage_error(file, [Problem(document.line(location), said, "Put the file itself there.")])
        if not (task.folder / name).is_file():
            what = ".".join(map(str, location))
            problem = Problem(document.line(location), f"{what}: there is no file {name} beside it", f"Write {name}.")
            raise _as_usage_error(file, [problem])
    if task.workload and workload_kind(task) == "module" and any(metric.reading for metric in task.metrics):
        line = document.line(("metrics",))
        remedy = "Remove it, or measure a command or a service."
        raise _as_usage_error(file, [Problem(line, "metrics: a module prints no figures", remedy)])


def _named_files(task: Task) -> dict[Location, str]:
    """The files that a task names beside itself, by where it names them."""
    named: dict[Location, str] = {}
    if task.workload:
        named |= {("workload", *place): name for place, name in task.workload.all_files.items()}
    if task.repo and task.repo.human_patch:
        named["repo", "human_patch"] = task.repo.human_patch
    if task.legacy:
        named |= {("legacy", key): name for key, name in task.legacy.files.items()}
    return named


def _as_usage_error(file: Path, found: list[Problem]) -> UsageError:
    if len(found) == 1:
        return UsageError(f"{_shown(file)}:{found[0].line}: {found[0].message}.", found[0].remedy)
    lines = [f"  {_shown(file)}:{one.line}: {one.message}. {one.remedy}".rstrip() for one in found[:_SHOWN_PROBLEMS]]
    if len(found) > _SHOWN_PROBLEMS:
        lines.append(f"  and {len(found) - _SHOWN_PROBLEMS} more")
    return UsageError("\n".join([f"{_shown(file)} has {len(found)} errors:", *lines]))


def _shown(path: Path) -> str:
    """A path as people want to read it: relative where it is below the working folder."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
