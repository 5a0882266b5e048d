"""What every command promises: a fast start, exit codes, one sentence and a remedy, no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import omniperf as package
from omniperf.cli import main
from omniperf.cli.app import COMMANDS, command
from omniperf.cli.output import print_json
from omniperf.errors import InfraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Omniperf = Callable[..., subprocess.CompletedProcess[str]]

HEAVY = {"pydantic", "rich", "jinja2", "git", "yaml", "libcst", "numpy", "openai", "anthropic", "tomllib", "asyncio"}


def test_json_holds_no_number_that_json_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"low": 0.0, "high": float("inf")})
    found = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == {"low": 0.0, "high": "Infinity"}


@pytest.mark.parametrize(
    ("arguments", "typer_needs"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["show", "--help"], {"pydantic"}),
        (["run", "--help"], {"pydantic"}),
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str], typer_needs: set[str]) -> None:
    """Typer reads the options of a command with pydantic, as soon as there is a command."""
    script = f"""
import sys
from omniperf.cli import main
try:
    main({arguments!r})
finally:
    print(*{{name.partition(".")[0] for name in sys.modules}} & {HEAVY - typer_needs!r}, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.strip() == ""


def test_help_lists_every_command_with_a_line(omniperf: Omniperf) -> None:
    done = omniperf("--help")
    assert done.returncode == 0
    width = max(map(len, COMMANDS))
    for name, line in COMMANDS.items():
        assert f"  {name:<{width}}  {line}" in done.stdout
    assert omniperf().stdout == done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_in_its_own_help_what_the_list_says_and_has_json(name: str) -> None:
    tree = command()
    found: Any = tree.get_command(None, name)
    assert found.name == name
    assert found.help.splitlines()[0] == COMMANDS[name]
    for leaf in getattr(found, "commands", {name: found}).values():
        assert "--json" in {option for parameter in leaf.params for option in parameter.opts}, leaf.name


def test_version(omniperf: Omniperf) -> None:
    assert omniperf("--version").stdout == f"omniperf {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "error: No such command 'nothing'. Try `omniperf --help`."),
        (["show", "--colour"], "error: No such option: --colour. Try `omniperf show --help`."),
        (["verify"], "error: Name one thing to verify."),
        (["show"], "error: There is no run under"),
        (["tasks", "show", "nothing"], "error: There is no task 'nothing'"),
        (["diff", "--raw", "--stat"], "error: --stat, --raw, --human and --json exclude each other."),
    ],
)
def test_a_usage_error_is_one_line_and_exit_code_2(omniperf: Omniperf, arguments: list[str], message: str) -> None:
    done = omniperf(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("group", ["tasks", "config", "prompt"])
def test_a_group_alone_prints_its_help(omniperf: Omniperf, group: str) -> None:
    done = omniperf(group)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == omniperf(group, "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("verify", "quickstart", "--patch", "f", "--out", "f"),
            "f cannot be written. Name another folder with --out.",
        ),
        (("verify", "quickstart", "--patch", "f", "--out", "/proc/x"), "Name another folder with --out."),
        (("verify", "quickstart", "--patch", "f", "--record", "f/x"), "Name another file with --record."),
        (("verify", "quickstart", "--patch", "f", "--record", "."), "Name another file with --record."),
        (("tasks", "certify", "quickstart", "--measurements", "f/x"), "Name another file with --measurements."),
        (("tasks", "certify", "quickstart", "--out", "/proc"), "Name a folder with --out."),
        (("tasks", "certify", "quickstart", "--worktrees", "f"), "Name another folder with --worktrees."),
        (("tasks", "validate", "quickstart", "--cache", "f"), "Name another folder with --cache."),
        (("prompt", "check", "quickstart", "--cache", "f"), "Name another folder with --cache."),
        (("tasks", "new", "xx", "--tasks", "/proc/tasks"), "Name another folder with --tasks."),
        (("import", "f", "--results", "f"), "Name another folder with --results."),
    ],
)
def test_where_nothing_can_be_written_is_said_before_anything_is_done(
    omniperf: Omniperf, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    (folder / "f").touch()
    done = omniperf(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_no_flag_is_named_that_a_command_lacks(omniperf: Omniperf, folder: Path) -> None:
    """Certificates and calibrations are no results: whether these can be written is not asked."""
    (folder / "f").touch()
    done = omniperf("tasks", "certify", "nothing", OMNIPERF_RESULTS=str(folder / "f"))
    assert "There is no task 'nothing'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--agent", "nul"), "There is no agent 'nul'."),
        (("--agent", "anthropic"), "needs a model."),
        (("--agent", "replay"), "Name its folder with --from"),
        (("--agent", "patch"), "Name one with --patch"),
    ],
)
def test_a_dry_run_refuses_what_the_sweep_would(omniperf: Omniperf, arguments: tuple[str, ...], said: str) -> None:
    done = omniperf("sweep", "--dry-run", "--task", "quickstart", *arguments, ANTHROPIC_API_KEY="k")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_remedy_can_be_followed(omniperf: Omniperf, folder: Path) -> None:
    assert "There is no file nosuch.yaml. Name one that exists." in omniperf("sweep", "nosuch.yaml").stderr
    omniperf("tasks", "new", "mine")
    assert "--patch FILE" in omniperf("agents").stdout
    assert "option from=" not in omniperf("agents").stdout
    unfilled = omniperf("tasks", "validate", "mine", "--sandbox", "none")
    assert unfilled.returncode == 1
    assert "Fill in `repo`" in " ".join(unfilled.stdout.split())
    file = folder / "tasks" / "mine" / "task.yaml"
    written = file.read_text().replace("https://github.com/OWNER/NAME", "https://127.0.0.1:1/them/it")
    file.write_text(written.replace("0" * 40, "1" * 40))
    mirrors = ("--mirror", str(folder / "m"), "--mirror", f"{folder}/{{owner}}+{{name}}")
    tried = omniperf("tasks", "validate", "mine", "--sandbox", "none", *mirrors, COLUMNS="1000").stdout
    places = (folder / "m/127.0.0.1/them/it", folder / "m/them/it", folder / "them+it")
    assert f"put a clone at {' or '.join(map(str, places))}." in tried


def failing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, *more: str
) -> tuple[Any, str]:
    """Run a command that raises the error; return the exit code and standard error."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("omniperf.settings.load_settings", fail)
    with pytest.raises(SystemExit) as caught:
        main([*more, "config", "show"])
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("A is wrong.", "Do B."), 2, "error: A is wrong. Do B.\n"),
        (InfraError("disk", "A failed.", "Do B."), 1, "error: A failed. Do B.\n"),
        (UsageError("A \x1b[31mred\x1b[0m [bold]thing[/bold]."), 2, "error: A red [bold]thing[/bold].\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_expected_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    assert failing(monkeypatch, capsys, error) == (code, said)


def test_an_unexpected_error_is_one_sentence_until_debug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = failing(monkeypatch, capsys, ZeroDivisionError("division by zero"))
    assert code == 1
    assert said.startswith("error: something unexpected happened (ZeroDivisionError: division by zero). Run again with")
    assert said.count("\n") == 1
    code, said = failing(monkeypatch, capsys, ZeroDivisionError("division by zero"), "--debug")
    assert code == 1
    assert "Traceback (most recent call last)" in said


@pytest.mark.parametrize("arguments", [["--debug", "show"], ["show", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(omniperf: Omniperf, arguments: list[str]) -> None:
    done = omniperf(*arguments)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: There is no run under")


def test_a_reader_that_stops_reading_is_no_error(folder: Any) -> None:
    """As in `omniperf ... | head`: the pipe is closed before the first byte is written."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "omniperf", "config", "show"],
        stdout=writing,
        stderr=subprocess.PIPE,
        cwd=folder,
        check=False,
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode in (0, 1)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_ends_with_130_and_no_traceback(folder: Any, name: str) -> None:
    script = (
        "import os, signal, omniperf.settings as s\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored\n"
        f"s.load_settings = lambda *_: os.kill(os.getpid(), signal.{name})\n"
        "from omniperf.cli import main; main(['config', 'show'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in done.stderr


def test_text_that_the_terminal_lacks_is_no_error(omniperf: Omniperf) -> None:
    done = omniperf("agents", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "pattern" in done.stdout


def test_agents_are_listed_and_a_broken_plugin_is_a_line(omniperf: Omniperf, folder: Any) -> None:
    plugin = folder / "plugin"
    (plugin / "broken-1.dist-info").mkdir(parents=True)
    (plugin / "broken-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (plugin / "broken-1.dist-info" / "entry_points.txt").write_text("[omniperf.agents]\nwreck = wreck:Agent\n")
    (plugin / "wreck.py").write_text("raise SystemExit('no license \\x1b[2J')\n")
    done = omniperf("agents", "--json", PYTHONPATH=str(plugin))
    agents = {agent["name"]: agent for agent in json.loads(done.stdout)}
    assert agents["wreck"]["package"] == "broken"
    assert agents["wreck"]["error"] == "broken: SystemExit: no license \x1b[2J"
    assert agents["pattern"]["error"] == ""
    assert agents["pattern"]["summary"]
    assert {"null", "oracle", "patch"} < set(agents)
    shown = omniperf("agents", PYTHONPATH=str(plugin))
    assert shown.returncode == 0
    assert "broken: SystemExit: no license" in shown.stdout
    assert "\x1b" not in shown.stdout


def test_doctor_answers_every_question(omniperf: Omniperf) -> None:
    done = omniperf("doctor", "--json")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert {"Python", "git", "sandbox", "CPU", "governor", "load", "results", "worktrees", "cache"} <= set(checks)
    for check in checks.values():
        assert check["status"] in ("ok", "info", "warn", "fail")
        assert check["remedy"] or check["status"] in ("ok", "info")
    assert done.returncode == any(check["status"] == "fail" for check in checks.values())
    assert omniperf("doctor").returncode == done.returncode


def test_doctor_does_not_pass_over_what_it_is_told_of_a_model(omniperf: Omniperf) -> None:
    done = omniperf("doctor", "--model", "m", "--base-url", "http://localhost:1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--model and --base-url. Name one with --agent." in done.stderr


def test_doctor_without_git_fails_and_says_what_to_install(omniperf: Omniperf, folder: Any) -> None:
    done = omniperf("doctor", PATH=str(folder))
    assert done.returncode == 1
    assert "FAIL  git" in done.stdout
    assert "Install git" in done.stdout


def test_tasks_are_started_listed_and_shown(omniperf: Omniperf, folder: Any) -> None:
    done = omniperf("tasks", "new", "mine")
    assert done.returncode == 0
    assert (folder / "tasks" / "mine" / "task.yaml").is_file()
    assert omniperf("tasks", "new", "mine").returncode == 2
    listed = {task["name"]: task for task in json.loads(omniperf("tasks", "list", "--json").stdout)}
    assert listed["mine"]["origin"] == "local"
    assert listed["quickstart"]["origin"] == "shipped"
    assert "mine" in omniperf("tasks", "list").stdout
    shown = json.loads(omniperf("tasks", "show", "mine", "--json").stdout)
    assert shown["task"]["id"] == "mine"
    assert shown["workload_kind"] == "module"
    assert "src/package/module.py" in omniperf("tasks", "show", "mine").stdout
