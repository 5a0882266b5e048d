"""Where OmniPerf puts and finds things.

Each setting comes from the last of these that names it:

1. the default
2. the user's file, `$XDG_CONFIG_HOME/omniperf/config.toml` (`~/.config` where that variable is not set)
3. the project's file, the nearest `omniperf.toml` in the working folder or above it
4. the environment: OMNIPERF_RESULTS, OMNIPERF_WORKTREES, OMNIPERF_CACHE, OMNIPERF_MIRRORS (several, separated by
   colons), OMNIPERF_SANDBOX, OMNIPERF_CGROUP, OMNIPERF_TASKS, OMNIPERF_ANTHROPIC_BASE_URL, OMNIPERF_OPENAI_BASE_URL
5. a flag of the command

A relative path in a file is relative to that file, elsewhere to the working folder.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from omniperf.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

SandboxChoice: TypeAlias = Literal["auto", "bubblewrap", "docker", "podman", "none"]

_PREFIX = "OMNIPERF_"
_OF_THE_TESTS = "OMNIPERF_SHARED"  # where they find texts that are not in the repository
_FOLDERS = ("results", "worktrees", "cache", "cgroup", "tasks")
_URLS = ("anthropic_base_url", "openai_base_url")
_KEYS = ("results", "worktrees", "cache", "mirrors", "sandbox", "cgroup", "tasks", *_URLS)
_FIELDS_OF_A_MIRROR = {"host", "owner", "name"}


@dataclass(frozen=True)
class Settings:
    """The settings in force; folders are absolute.

    A mirror is a folder that holds repositories, or a template of a path with {host}, {owner} and {name}. `cgroup` is a
    control group (version 2) in which sandboxes may have groups of their own. The base URLs say where models are asked
    when no --base-url does; they are as each API's SDK takes them, and empty for the provider itself. `origins` says
    for each setting where it came from: `default`, `FILE:LINE`, `environment NAME` or `flag --NAME`.
    """

    results: Path
    worktrees: Path
    cache: Path
    mirrors: tuple[str, ...] = ()
    sandbox: SandboxChoice = "auto"
    cgroup: Path | None = None
    tasks: Path = Path("tasks")
    anthropic_base_url: str = ""
    openai_base_url: str = ""
    origins: Mapping[str, str] = field(default_factory=dict)


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Return the settings for a command run here. An override of None is a flag that was not given.

    Raises UsageError for a file or variable that is not as it must be, naming file, line, key and remedy.
    """
    here = Path.cwd()
    values: dict[str, object] = {
        "results": here / "results",
        "worktrees": here / "worktrees",
        "cache": _xdg("XDG_CACHE_HOME", ".cache") / "omniperf",
        "mirrors": (),
        "sandbox": "auto",
        "cgroup": None,
        "tasks": here / "tasks",
        "anthropic_base_url": "",
        "openai_base_url": "",
    }
    origins = dict.fromkeys(values, "default")
    for file in (user_file(), project_file(here)):
        if file is not None and file.is_file():
            _read_file(file, values, origins)
    for name in sorted(name for name in os.environ if name.startswith(_PREFIX) and name != _OF_THE_TESTS):
        if name.removeprefix(_PREFIX).lower() not in _KEYS:
            known = ", ".join(f"{_PREFIX}{key.upper()}" for key in _KEYS)
            raise UsageError(f"{name} is not a setting.", f"Unset it; the settings are {known}.")
    for key in _KEYS:
        name = f"{_PREFIX}{key.upper()}"
        if text := os.environ.get(name):
            given = [entry for entry in text.split(os.pathsep) if entry] if key == "mirrors" else text
            values[key] = _checked(key, given, here, name, f"Correct or unset {name}.")
            origins[key] = f"environment {name}"
    for key, value in (overrides or {}).items():
        if key not in _KEYS:
            raise TypeError(f"{key} is not a setting")
        if value is None:
            continue
        flag = "--mirror" if key == "mirrors" else f"--{key}"
        values[key] = _checked(key, value, here, flag, f"Correct {flag}.")
        origins[key] = f"flag {flag}"
    return Settings(**values, origins=origins)  # type: ignore[arg-type]  # _checked gave each its type


def to_plain(settings: Settings) -> dict[str, object]:
    """The settings as JSON has them, for another process; where each came from is left out."""
    given = {key: getattr(settings, key) for key in _KEYS}
    return {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}


def from_plain(given: Mapping[str, object]) -> Settings:
    """The settings that `to_plain` made plain."""
    checked = {key: _checked(key, value, Path("/"), key, "") if value else value for key, value in given.items()}
    return Settings(**{**checked, "mirrors": checked["mirrors"] or ()})  # type: ignore[arg-type]  # _checked gave each its type


def user_file() -> Path:
    """Return the path of the user's file, whether it exists or not."""
    return _xdg("XDG_CONFIG_HOME", ".config") / "omniperf" / "config.toml"


def project_file(folder: Path) -> Path | None:
    """Return the nearest `omniperf.toml`, from the folder upward."""
    return next((file for above in (folder, *folder.parents) if (file := above / "omniperf.toml").is_file()), None)


def _xdg(variable: str, default: str) -> Path:
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / default  # the specification: ignore a relative one


def _read_file(file: Path, values: dict[str, object], origins: dict[str, str]) -> None:
    import tomllib

    try:
        text = file.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)  # else the end of the document
        where = f"{file}:{line[1] if line else len(text.splitlines())}"
        raise UsageError(f"{where}: not valid TOML: {said}.", "Correct that line.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read ({error}).", "Make it a readable UTF-8 file.") from None
    for key, value in table.items():
        where = f"{file}:{_line_of(key, text)}"
        if key not in _KEYS:
            from difflib import get_close_matches

            near = get_close_matches(key, _KEYS, 1)
            raise UsageError(
                f"{where}: {key!r} is not a setting.",
                f"Did you mean {near[0]!r}?" if near else f"The settings are {', '.join(_KEYS)}.",
            )
        values[key] = _checked(key, value, file.parent, f"{where}: {key}", "Correct that line.")
        origins[key] = where


def _line_of(key: str, text: str) -> int:
    """Return the line that sets a top-level key, 1 where it is written in a way too odd to find."""
    found = re.search(rf"""^[ \t]*\[*[ \t]*["']?{re.escape(key)}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _checked(key: str, value: object, folder: Path, where: str, remedy: str) -> object:
    """Return a value with its final type, or say what is wrong with it."""
    if key == "sandbox":
        if value not in get_args(SandboxChoice):
            raise UsageError(f"{where} is {value!r}, which is none of {', '.join(get_args(SandboxChoice))}.", remedy)
        return value
    if key in _URLS:
        if not isinstance(value, str) or not value.startswith(("http://", "https://")):
            raise UsageError(f"{where} is not an http(s) URL.", remedy)  # it may hold a password: not repeated
        return value
    if key in _FOLDERS:
        if not isinstance(value, str | Path) or not str(value):
            raise UsageError(f"{where} is {value!r}, not the path of a folder.", remedy)
        return _absolute(str(value), folder)
    if not isinstance(value, list | tuple) or not all(isinstance(entry, str) and entry for entry in value):
        raise UsageError(f"{where} is {value!r}, not a list of folders or templates.", remedy)
    return tuple(_mirror(entry, folder, where, remedy) for entry in value)


def _mirror(entry: str, folder: Path, where: str, remedy: str) -> str:
    from string import Formatter

    try:
        names = {name for _, name, _, _ in Formatter().parse(entry) if name is not None}
    except ValueError as error:
        raise UsageError(f"{where}: the template {entry!r} is broken ({error}).", remedy) from None
    if unknown := sorted(names - _FIELDS_OF_A_MIRROR):
        raise UsageError(
            f"{where}: the template {entry!r} names {{{unknown[0]}}}.",
            "A template may name {host}, {owner} and {name}.",
        )
    if "://" in entry:
        raise UsageError(f"{where}: {entry!r} is a URL.", "A mirror is a folder on this host; clone into one first.")
    return str(_absolute(entry, folder))


def _absolute(path: str, folder: Path) -> Path:
    try:
        return Path(os.path.normpath(folder / Path(path).expanduser()))
    except RuntimeError:  # ~user without such a user
        raise UsageError(f"{path} names the home of a user that does not exist.", "Write the whole path.") from None
