"""Ask the static rules about real patches: of people, of their daily work, and of agents.

usage: OMNIPERF_MIRRORS=... python -m benchmarks.false_alarms [DATA] [--commits N] [--out FILE]

DATA holds agents' patches as `model_patch.diff`, wherever below it. Exits with 1 where a human patch of a shipped task
is rejected, or none was read.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omniperf.errors import OmniPerfError
from omniperf.results.schema import PatchFile
from omniperf.settings import load_settings
from omniperf.shipped import shipped
from omniperf.tasks.load import load_task
from omniperf.tasks.schema import Task
from omniperf.verify.integrity.patch import inspect_patch
from omniperf.verify.integrity.rules import rules_of
from omniperf.verify.scope import PROTECTED
from omniperf.workspace.patch import Patch, text_at
from omniperf.workspace.plumbing import GitError, git, text
from omniperf.workspace.source import human_patch, resolve_source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omniperf.results.schema import Finding

GRAVE = ("reject", "warn")


@dataclass(frozen=True)
class Read:
    """A patch that was read, and what was found."""

    name: str
    sha256: str
    findings: tuple[Finding, ...]


def humans() -> tuple[list[Read], list[str], dict[Path, str]]:
    """Every shipped task's human patch, with base's text; why others were not read; and a base of each repository."""
    settings = load_settings({})
    read: list[Read] = []
    missing: list[str] = []
    bases: dict[Path, str] = {}
    for file in sorted(shipped("tasks").glob("*/task.yaml")):
        task = load_task(str(file.parent), settings)
        try:
            source = resolve_source(task, settings)
            data = human_patch(task, source)
        except OmniPerfError as error:
            missing.append(f"{task.id}: {error}")
            continue
        if data is None:
            missing.append(f"{task.id}: it has none")
            continue
        if source.human is not None:
            bases.setdefault(source.git_dir, source.base)
        read.append(inspected(task.id, as_patch(data), partial(text_at, source.git_dir, source.base), task))
    return read, missing, bases


def commits(bases: dict[Path, str], each: int) -> list[Read]:
    """The last commits before a base of each repository: what people do to it day by day."""
    read = []
    untouchable = [f":(exclude,glob){glob}" for glob in PROTECTED]
    for git_dir, base in bases.items():
        for commit in text(git("rev-list", "--no-merges", f"-n{each}", base, git_dir=git_dir)).split():
            try:
                data = git("diff-tree", "-p", "--no-commit-id", commit, "--", ".", *untouchable, git_dir=git_dir)
            except GitError:  # a mirror may lack files
                continue
            if (patch := as_patch(data)).files:
                name = f"{git_dir.parent.name} {commit[:12]}"
                task = Task.model_construct(id="any", targets=("**/*.py",), repo=None)
                read.append(inspected(name, patch, partial(text_at, git_dir, f"{commit}^"), task))
    return read


def inspected(name: str, patch: Patch, base: Callable[[str], str | None], task: Task) -> Read:
    """What the rules find in one patch."""
    return Read(name, patch.sha256, inspect_patch(patch, base, task))


def agents(data: Path) -> list[Read]:
    """Every agent's patch below a folder, one for each content."""
    task = Task.model_construct(id="any", targets=())
    read: dict[str, Read] = {}
    for file in sorted(data.rglob("model_patch.diff")):
        patch = as_patch(file.read_bytes())
        if patch.files:
            name = str(file.parent.relative_to(data)).removeprefix("iso-bench/runs/")
            read.setdefault(patch.sha256, inspected(name, patch, lambda _: None, task))
    return list(read.values())


def as_patch(data: bytes) -> Patch:
    """A diff as git writes it, whose base is not at hand, as far as its own headers tell what it does."""
    files = []
    for section in re.split(r"^(?=diff --git )", data.decode("utf-8", "replace"), flags=re.M)[1:]:
        head, *hunks = re.split(r"^(?=@@ )", section, flags=re.M)
        first = re.match(r"diff --git a/(.*) b/(.*)\n", head)
        lines = [line for hunk in hunks for line in hunk.split("\n")]
        added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
        status = "added" if "\nnew file" in head else "deleted" if "\ndeleted file" in head else "modified"
        old = re.search(r"^rename from (.*)$", head, re.M)
        binary = "\nGIT binary patch" in head or "\nBinary files" in head
        files.append(
            PatchFile(
                path=first[2] if first else "?",
                status="renamed" if old else status,
                old_path=old[1] if old else None,
                added=None if binary else added,
                removed=None if binary else removed,
            )
        )
    return Patch(data, "", tuple(files))


def table(groups: Sequence[list[Read]]) -> list[str]:
    """How many patches each rule speaks of."""
    counts = [Counter((one.id, one.severity) for each in group for one in each.findings) for group in groups]
    shown = ((each.id, each.severity) for each in rules_of("patch"))
    rows = [[*key, *(str(count[key]) for count in counts)] for key in shown]
    rows += [["**any**", severity, *(str(len(having(group, severity))) for group in groups)] for severity in GRAVE]
    return ["| rule | severity | human | ordinary | agents |", "|---|---|---|---|---|", *map(row, rows)]


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def having(group: list[Read], severity: str) -> list[Read]:
    """The patches with a finding of that severity."""
    return [each for each in group if any(finding.severity == severity for finding in each.findings)]


def listed(group: list[Read], severity: str) -> list[str]:
    """What was found, where, and what reading it showed."""
    lines = []
    for each in having(group, severity):
        for finding in each.findings:
            if finding.severity == severity:
                lines.append(f"- `{each.name}` **{finding.id}**: {finding.message}")
                lines += [f"  - `{place}`" for place in finding.evidence.splitlines()]
    return lines or ["None."]


def main() -> None:
    """Read them all and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path("../shared/data"))
    parser.add_argument("--commits", type=int, default=450, help="ordinary commits of each repository")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "evidence" / "false-alarms.md")
    given = parser.parse_args()
    human, missing, bases = humans()
    ordinary, agent = commits(bases, given.commits), agents(given.data)
    wrongly = having(human, "reject")
    text = f"""# False alarms of the static rules

`python -m benchmarks.false_alarms` asked the rules about

- {len(human)} *human* patches of shipped tasks, with base's text;
- {len(ordinary)} *ordinary* commits: up to {given.commits} before the base of a task, of {len(bases)} repositories,
  with the text before them, without tests and build files, which no patch may touch;
- {len(agent)} different patches that *agents* made for serving engines, by their added lines alone: base was not at
  hand, so what needs the lines around it is not seen.

A patch counts once for each rule. The rules are not as they were at first sight of the ordinary commits. Of the first
150 of each repository five were rejected, three of them in tests: `sys.modules[name] = mod` in a package that loads
itself lazily, and `os.execv` in a reloader, now warn. Of those before them, which were read later, two were: a debugger
that shows a traceback's `f_locals`, which now warns where nothing in the file walks the stack.

{lines(table((human, ordinary, agent)))}

## Rejected human patches
{lines(listed(human, "reject"))}

## Rejected patches of agents
{lines(listed(agent, "reject"))}

## Rejected ordinary commits
{lines(listed(ordinary, "reject"))}

## Warnings about human patches
{lines(listed(human, "warn"))}

## Warnings about patches of agents
{lines(listed(agent, "warn"))}

## Human patches that were not read
{lines([f"- {each}" for each in missing] or ["None."])}
"""
    given.out.write_text(text)
    print(f"{len(human)} human patches, {len(wrongly)} rejected; {len(ordinary)} commits; {len(agent)} of agents")
    sys.exit(1 if wrongly or not human else 0)


def lines(rows: list[str]) -> str:
    return "\n".join(rows)


if __name__ == "__main__":
    main()
