"""Settings: defaults < user file < project file < environment < flags, and every mistake is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.settings import load_settings

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Omniperf = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder two below a project's, with no configuration anywhere."""
    for name in ("RESULTS", "WORKTREES", "CACHE", "MIRRORS", "SANDBOX", "TASKS"):
        monkeypatch.delenv(f"OMNIPERF_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    folder = tmp_path / "project" / "deep" / "work"
    folder.mkdir(parents=True)
    (tmp_path / "config" / "omniperf").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_defaults(here: Path, tmp_path: Path) -> None:
    settings = load_settings({})
    assert settings.results == here / "results"
    assert settings.worktrees == here / "worktrees"
    assert settings.tasks == here / "tasks"
    assert settings.cache == tmp_path / "home" / ".cache" / "omniperf"
    assert settings.mirrors == ()
    assert settings.sandbox == "auto"
    assert set(settings.origins.values()) == {"default"}


def test_each_source_is_stronger_than_the_one_before(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["results", "worktrees", "cache", "tasks"]
    user = tmp_path / "config" / "omniperf" / "config.toml"
    user.write_text("".join(f'{name} = "user"\n' for name in names))
    project = tmp_path / "project" / "omniperf.toml"
    project.write_text("# ours\n" + "".join(f'{name} = "project"\n' for name in names[1:]))
    monkeypatch.setenv("OMNIPERF_CACHE", "environment")
    monkeypatch.setenv("OMNIPERF_TASKS", "environment")
    settings = load_settings({"tasks": Path("flag"), "results": None})
    assert [getattr(settings, name) for name in names] == [
        user.parent / "user", project.parent / "project", here / "environment", here / "flag",
    ]  # fmt: skip
    assert {name: settings.origins[name] for name in names} == {
        "results": f"{user}:1",
        "worktrees": f"{project}:2",
        "cache": "environment OMNIPERF_CACHE",
        "tasks": "flag --tasks",
    }
    assert settings.origins["sandbox"] == "default"


def test_the_nearest_project_file_counts_alone(here: Path, tmp_path: Path) -> None:
    (tmp_path / "project" / "omniperf.toml").write_text('sandbox = "none"\n')
    (here.parent / "omniperf.toml").write_text('results = "near"\n')
    settings = load_settings({})
    assert settings.sandbox == "auto"
    assert settings.results == here.parent / "near"


def test_mirrors_are_folders_or_templates(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIPERF_MIRRORS", "~/one:/two/{host}/{owner}/{name}.git::three")
    assert load_settings({}).mirrors == (
        f"{tmp_path}/home/one",
        "/two/{host}/{owner}/{name}.git",
        f"{here}/three",
    )


def test_an_empty_variable_is_not_set(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIPERF_RESULTS", "")
    assert load_settings({}).results == here / "results"


def test_relative_xdg_folders_are_ignored(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert load_settings({}).cache == tmp_path / "home" / ".cache" / "omniperf"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb = [\n", r"omniperf\.toml:2: not valid TOML: .*Correct that line"),
        ('results = "a"\n\nresult = "b"\n', r"omniperf\.toml:3: 'result' is not a setting\. Did you mean 'results'"),
        ("[zzz]\na = 1\n", r"omniperf\.toml:1: 'zzz' is not a setting\. The settings are results,"),
        ("# x\ncache = 3\n", r"omniperf\.toml:2: cache is 3, not the path of a folder\. Correct"),
        ('cache = ""\n', r"omniperf\.toml:1: cache is '', not the path of a folder"),
        ('mirrors = "a"\n', r"omniperf\.toml:1: mirrors is 'a', not a list"),
        ("mirrors = [1]\n", r"omniperf\.toml:1: mirrors is \[1\], not a list"),
        ('mirrors = ["/m/{org}"]\n', r"names \{org\}\. A template may name \{host\}, \{owner\} and \{name\}"),
        ('mirrors = ["/m/{"]\n', r"the template '/m/\{' is broken"),
        ('mirrors = ["https://x"]\n', r"'https://x' is a URL\. A mirror is a folder"),
        ('sandbox = "jail"\n', r"omniperf\.toml:1: sandbox is 'jail', which is none of auto, bubblewrap, docker"),
        ('cache = "~nobodyatall/x"\n', r"home of a user that does not exist"),
    ],
)
def test_a_bad_file_is_named_with_line_and_remedy(here: Path, text: str, message: str) -> None:
    (here / "omniperf.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_settings({})


def test_a_file_that_is_not_utf8_is_named(here: Path) -> None:
    (here / "omniperf.toml").write_bytes(b'results = "\xff"\n')
    with pytest.raises(UsageError, match=r"omniperf\.toml cannot be read .*readable UTF-8"):
        load_settings({})


def test_a_bad_variable_and_a_bad_flag_are_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"^--sandbox is 'x', .*Correct --sandbox"):
        load_settings({"sandbox": "x"})
    monkeypatch.setenv("OMNIPERF_SANDBOX", "x")
    with pytest.raises(UsageError, match=r"^OMNIPERF_SANDBOX is 'x', .*unset OMNIPERF_SANDBOX"):
        load_settings({})


def test_config_show_prints_values_and_origins(omniperf: Omniperf, folder: Path) -> None:
    (folder / "omniperf.toml").write_text('sandbox = "none"\n')
    shown = omniperf("config", "show", "--origin", "--mirror", "/m", OMNIPERF_RESULTS="/r").stdout
    rows = {name: (value, origin) for name, value, origin in (line.split(maxsplit=2) for line in shown.splitlines())}
    assert rows["sandbox"] == ("none", f"({folder}/omniperf.toml:1)")
    assert rows["results"] == ("/r", "(environment OMNIPERF_RESULTS)")
    assert rows["mirrors"] == ("/m", "(flag --mirror)")
    assert len({line.index(f" {rows[line.split()[0]][0]} ") for line in shown.splitlines()}) == 1, "one column"
    plain = json.loads(omniperf("config", "show", "--json").stdout)
    assert plain["sandbox"] == "none"
    assert plain["mirrors"] == []
    told = json.loads(omniperf("config", "show", "--origin", "--json").stdout)
    assert told["sandbox"] == {"value": "none", "origin": f"{folder}/omniperf.toml:1"}


def test_base_urls_are_settings_and_what_is_no_url_is_refused_unshown(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "omniperf.toml").write_text('openai_base_url = "http://127.0.0.1:8000/v1"\n')
    monkeypatch.setenv("OMNIPERF_ANTHROPIC_BASE_URL", "https://proxy.example")
    settings = load_settings({})
    assert (settings.anthropic_base_url, settings.openai_base_url) == (
        "https://proxy.example", "http://127.0.0.1:8000/v1",
    )  # fmt: skip
    monkeypatch.setenv("OMNIPERF_ANTHROPIC_BASE_URL", "user:password@proxy")
    with pytest.raises(UsageError, match="OMNIPERF_ANTHROPIC_BASE_URL is not an http") as refused:
        load_settings({})
    assert "password" not in str(refused.value)
