"""`omniperf prompt`: the bytes as they were sent, and an exit code that scripts can trust."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.seeds import SEEDS, seed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Omniperf = Callable[..., subprocess.CompletedProcess[str]]

TEMPLATES = {
    "seed-vllm-0001": "gso", "seed-vllm-0016": "gso", "seed-vllm-0003": "guided", "seed-sglang-0060": "guided",
}  # fmt: skip


def raw(folder: Path, *arguments: str) -> bytes:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMNIPERF_")}
    environment["PYTHONIOENCODING"] = "ascii"  # the terminal's encoding has no part in it
    command = [sys.executable, "-m", "omniperf", "prompt", "show", *arguments, "--raw"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return done.stdout


@pytest.mark.parametrize("task_id", SEEDS)
def test_raw_is_the_prompt_as_it_was_sent(task_id: str, folder: Path) -> None:
    expected = seed(task_id)
    arguments = (task_id, "--template", TEMPLATES[task_id], "--workspace", expected.workspace)
    assert raw(folder, *arguments) == expected.text


def test_a_workspace_may_have_a_name_that_is_not_utf8(folder: Path) -> None:
    assert b"in the directory /w\xff." in raw(folder, "seed-vllm-0001", "--workspace", os.fsdecode(b"/w\xff"))


def test_show_never_refuses_and_says_what_it_shows(omniperf: Omniperf) -> None:
    done = omniperf("prompt", "show", "seed-sglang-0060")
    assert done.returncode == 0
    head, rule, *lines = done.stdout.split("\n")
    assert head.startswith("seed-sglang-0060  guided@1 · ")
    assert head.endswith(" · prompt-only")
    assert set(rule) == {"─"}
    assert lines[0] == "I've uploaded a python code repository in the directory /workspace."
    assert "START IMPLEMENTING IMMEDIATELY. NO MORE ANALYSIS." in lines


def test_show_json(omniperf: Omniperf, folder: Path) -> None:
    said = json.loads(omniperf("prompt", "show", "seed-vllm-0003", "--no-hints", "--json").stdout)
    assert said["template"] == "guided@1"
    assert said["hints"] is False
    assert len(said["template_sha256"]) == len(said["sha256"]) == 64
    assert said["prompt"].encode() == raw(folder, "seed-vllm-0003", "--no-hints")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "seed-vllm-0001", "--raw", "--json"], "error: --raw and --json exclude each other."),
        (["show", "seed-vllm-0001", "--template", "x"], "error: There is no prompt template 'x'. Choose one of: gso,"),
        (["show", "quickstart", "--template", "gso"], "error: The template gso is made from `legacy` metadata"),
        (["check", "nothing"], "error: There is no task 'nothing'"),
    ],
)
def test_a_usage_error_is_one_line(omniperf: Omniperf, arguments: list[str], message: str) -> None:
    done = omniperf("prompt", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["seed-vllm-0001"], 3, "leaks"),
        (["seed-sglang-0060"], 3, "leaks"),
        (["seed-vllm-0001", "--template", "optimize"], 0, "clean"),
        (["quickstart"], 0, "clean"),
    ],
)
def test_check_ends_with_3_on_a_leak(omniperf: Omniperf, arguments: list[str], code: int, status: str) -> None:
    done = omniperf("prompt", "check", *arguments, "--json")
    assert done.returncode == code
    said = json.loads(done.stdout)
    assert said["status"] == status
    assert all(part["evidence"] for part in said["parts"] if part["status"] in ("leaks", "foreign"))


def test_check_shows_what_was_found_and_what_was_not_checked(omniperf: Omniperf) -> None:
    done = omniperf("prompt", "check", "seed-sglang-0060")
    lines = done.stdout.split("\n")
    assert lines[0].startswith("LEAKS  seed-sglang-0060 · guided@1: the prompt gives the human solution away")
    assert any(line.startswith("not checked  patch lines") for line in lines)
    assert any(line.startswith("FOREIGN      other repositories") for line in lines)
    assert "  line 133: the pull request #6627" in lines


def test_run_refuses_a_seed_because_it_is_prompt_only(omniperf: Omniperf, folder: Path) -> None:
    done = omniperf("run", "seed-vllm-0001", "--template", "gso", "--allow-leak")
    assert done.returncode == 2
    assert "is prompt-only" in done.stderr
    assert not (folder / "results").exists()


def test_the_list_marks_tasks_that_only_have_a_prompt(omniperf: Omniperf) -> None:
    listed = {task["name"]: task["prompt_only"] for task in json.loads(omniperf("tasks", "list", "--json").stdout)}
    assert {name for name, only in listed.items() if only} == set(SEEDS)
    shown = omniperf("tasks", "list").stdout.split("\n")
    assert all(("prompt-only" in line) == line.startswith("seed-") for line in shown)


def test_validate_says_that_a_seed_cannot_run(omniperf: Omniperf) -> None:
    done = omniperf("tasks", "validate", "seed-vllm-0016")
    assert done.returncode == 0
    assert "prompt only" in done.stdout
