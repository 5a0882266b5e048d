"""Results on a terminal: one attempt in full, many in a table, and the checks of a host or a task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from omniperf.report.escape import one_line, plain
from omniperf.report.numbers import count, dollars, duration, interval, percent, quantity, ratio, with_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderableType

    from omniperf.results.schema import (
        Correctness,
        Finding,
        MetricResult,
        Outcome,
        PatchInfo,
        Result,
        Usage,
        Verdict,
        Verification,
    )  # fmt: skip

STYLES = {
    "improved": "bold green",
    "no_change": "bold yellow",
    "inconclusive": "bold yellow",
    "regressed": "bold red",
    "incorrect": "bold red",
    "rejected": "bold red",
    "invalid": "bold red",
    "no_patch": "bold",
    "unverified": "bold",
}
WIDE, _SHOWN_ASIDE = 110, 3
_GAP, _FOLDED = 3, 16  # columns between two cells, and of a cell that may be folded
_ENDED_WELL = ("finished", "budget")
_SEVERITIES = {"reject": "red", "warn": "yellow", "info": "dim"}
_STATUSES = {"ok": ("ok", "green"), "info": ("info", "dim"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red")}


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> Table:
    """Return a plain table; cells that are text are made safe to show.

    `right` names the columns of numbers, `whole` those whose cells stay on one line where there is any room.
    """
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, header_style="bold")
    for header in headers:
        number = header in right
        view.add_column(
            Text(header), justify="right" if number else "left", no_wrap=number or header in whole, overflow="fold"
        )
    for row in rows:
        view.add_row(*(cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row))
    return view


@dataclass(frozen=True)
class Rows:
    """A `table` where there is room for whole rows, without columns that are `spare` if need be; else a block a row."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str | Text]]
    right: Sequence[str] = ()
    whole: Sequence[str] = ()
    spare: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for given_up in range(len(self.spare) + 1):
            shown = [at for at, name in enumerate(self.headers) if name not in self.spare[:given_up]]
            if sum(self._width(at) for at in shown) + _GAP * (len(shown) - 1) <= options.max_width:
                rows = ([row[at] for at in shown] for row in self.rows)
                yield table([self.headers[at] for at in shown], rows, self.right, self.whole)
                return
        for row in self.rows:
            first, *others = (cell if isinstance(cell, Text) else Text(plain(cell)) for cell in row)
            yield first
            yield Padding(Text(" · ").join(cell for cell in others if cell), (0, 0, 0, 2))

    def _width(self, column: int) -> int:
        """How wide a column must be: as its longest cell, unless that may go on in a second line."""
        header = self.headers[column]
        longest = max((cell_len(plain(str(row[column]))) for row in self.rows), default=0)
        kept = header in self.whole or header in self.right
        return max(cell_len(header), longest if kept else min(longest, _FOLDED))


def summary(result: Result, folder: Path | None = None) -> RenderableType:
    """Return all that matters of one attempt: what its patch is worth, why, and how that is known."""
    verdict, identity = result.verdict, result.identity
    headline = _headline(verdict, f"{identity.task_id} · {identity.label}.{identity.n}")
    if result.outcome.kind not in _ENDED_WELL:
        headline.append(f"  {result.outcome.kind}", "bold red")
    of_attempt = {"patch": _patch(result.patch), "from": _from(result), "agent": _agent(result)}
    of_attempt["outcome"] = _outcome(result.outcome)
    last = {
        "usage": _usage(result.usage),
        "prompt": _prompt(result),
        "cost": _cost(verdict),
        "environment": _environment(result.environment, result.sandbox),
        "run": f"{identity.run_id} · attempt {identity.attempt_id}",
        "files": shown_path(folder) if folder else "",
    }
    return Group(headline, *_details(verdict, of_attempt), Text(), facts_view(last))


def verdict_view(verdict: Verdict) -> RenderableType:
    """Return what a patch is worth, why, and how that is known, where no attempt is around it."""
    cost = _cost(verdict)
    return Group(_headline(verdict, ""), *_details(verdict, {"cost": cost}))


def _details(verdict: Verdict, more: Mapping[str, str]) -> list[RenderableType]:
    """The parts between headline and end: facts (and `more` of them), metrics, findings."""
    facts = {
        "verdict": one_line(verdict.reason),
        **_measured(verdict),
        "correctness": _correctness(verdict.correctness),
    }
    parts: list[RenderableType] = [Text(), facts_view({**facts, **more})]
    if verdict.metrics:
        parts += [Text(), _metrics(verdict.metrics)]
    if verdict.printed:
        shown = ", ".join(f"{one_line(name)} {value:g}" for name, value in verdict.printed.items())
        parts += [Text(), Text(f"printed by the workload itself, not used for the verdict: {shown}")]
    if verdict.findings:
        parts += [Text(), _findings(verdict.findings)]
    return parts


def results_table(results: Sequence[Result]) -> RenderableType:
    """Return a line for each attempt, and how many got each verdict."""
    totals: dict[str, int] = {}
    for result in results:
        totals[result.verdict.class_] = totals.get(result.verdict.class_, 0) + 1
    said = ", ".join(f"{number} {name}" for name, number in totals.items())
    runs = ", ".join(dict.fromkeys(plain(result.identity.run_id) for result in results))
    return Group(_Attempts(results), Text(), Text(f"{count(len(results), 'attempt')}: {said} · run {runs}"))


def verifications_table(found: Sequence[Verification]) -> RenderableType:
    """Return a line for each patch that was measured again, and how many got each verdict."""
    headers = ["task", "patch of", "verdict", "speedup", "interval", *("before",) * any(one.before for one in found)]
    rows = []
    for one in found:
        cells = _verdict_cells(one.verdict)
        cells["before"] = "" if one.before is None else Text(one.before, STYLES[one.before])
        rows.append([one.task_id, one.label, *(cells[name] for name in headers[2:])])
    totals = Counter(one.verdict.class_ for one in found)
    said = ", ".join(f"{number} {name}" for name, number in totals.items())
    view = Rows(headers, rows, ("speedup", "interval"), ("task", "verdict", "before"))
    return Group(view, Text(), Text(f"{count(len(found), 'patch', 'patches')}: {said}"))


@dataclass(frozen=True)
class _Attempts:
    """A table of attempts with the columns that there is room for."""

    results: Sequence[Result]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        headers = ["task", "attempt", "verdict", "speedup", "interval", "time"]
        if options.max_width >= WIDE:
            headers += ["pairs", "patch"]
        if any(result.start for result in self.results):
            headers.insert(2, "from")
        if any(result.outcome.kind not in _ENDED_WELL for result in self.results):
            headers.append("outcome")
        rows = []
        for result in self.results:
            cells = _cells(result)
            rows.append([cells[header] for header in headers])
        numbers = ("speedup", "interval", "pairs", "patch", "time")
        whole = ("task", "attempt", "from", "verdict", "outcome")
        yield Rows(headers, rows, numbers, whole, spare=("time",))


def _cells(result: Result) -> dict[str, str | Text]:
    identity = result.identity
    return {
        "task": identity.task_id,
        "attempt": f"{identity.label}.{identity.n}",
        "from": result.start.origin if result.start else "",
        **_verdict_cells(result.verdict),
        "patch": f"+{result.patch.added} -{result.patch.removed}" if result.patch else "",
        "time": duration(result.usage.wall_seconds),
        "outcome": "" if result.outcome.kind in _ENDED_WELL else Text(result.outcome.kind, "red"),
    }


def _verdict_cells(verdict: Verdict) -> dict[str, str | Text]:
    estimate = verdict.speedup
    return {
        "verdict": Text(verdict.class_, STYLES[verdict.class_]),
        "speedup": ratio(estimate.speedup) if estimate else "",
        "interval": interval(estimate.interval) if estimate else "",
        "pairs": str(estimate.pairs) if estimate else "",
    }


def checks_view(checks: Iterable[tuple[str, str, str, str]]) -> RenderableType:
    """Return a line for each check (status `ok`, `info`, `warn` or `fail`; name; detail; remedy)."""
    view = Table.grid(padding=(0, 2))
    view.add_column(no_wrap=True)
    view.add_column(no_wrap=True)
    view.add_column(overflow="fold")
    for status, name, detail, remedy in checks:
        word, style = _STATUSES[status]
        said = Text(plain(detail))
        if remedy and status in ("warn", "fail"):
            said.append(f"\n→ {plain(remedy)}", "cyan")
        view.add_row(Text(word, style), Text(plain(name), "bold"), said)
    return view


def _headline(verdict: Verdict, of: str) -> Text:
    line = Text(verdict.class_, STYLES[verdict.class_])
    if verdict.class_ == "improved" and verdict.speedup:
        line.append(f"  {ratio(verdict.speedup.speedup)} as fast", "bold green")
    return line.append(f"  {one_line(of)}" if of else "")


def facts_view(facts: Mapping[str, str]) -> Table:
    """Return a line for each fact that is not empty, made safe to show."""
    view = Table.grid(padding=(0, 2))
    view.add_column(style="dim", no_wrap=True, width=12)
    view.add_column(overflow="fold")
    for name, fact in facts.items():
        if fact:
            view.add_row(Text(name), Text(plain(fact)))
    return view


def _measured(verdict: Verdict) -> dict[str, str]:
    estimate = verdict.speedup
    if estimate is None:
        return {}
    facts = {
        "speedup": with_interval(estimate),
        "claim": f"{interval(estimate.claim)} at {estimate.claim.confidence * 100:g} % a side, all looks counted",
        "measured": f"{count(estimate.pairs, 'pair')}, noise {percent(estimate.noise)} a pair, "
        f"could have detected {percent(estimate.minimum_detectable_effect)}",
    }
    if verdict.noise_floor is not None:
        facts["measured"] += f", noise floor {percent(verdict.noise_floor)}"
    if verdict.versus_human:
        versus = verdict.versus_human_speedup
        facts["versus human"] = verdict.versus_human + (f": {with_interval(versus)}" if versus else "")
    return facts


def _correctness(found: Correctness) -> str:
    tests = {True: "tests pass", False: "tests FAIL", None: "tests not checked"}[found.tests_passed]
    outputs = {True: "outputs equal", False: "outputs DIFFER", None: "outputs not checked"}[found.outputs_equal]
    if found.outputs_compared:
        outputs += f" ({found.outputs_compared} compared, {count(found.seeds, 'seed')})"
    before = count(found.fresh_states, "fresh state") if found.fresh_states else ""
    before += f", {count(found.shapes_compared, 'other shape')}" if found.shapes_compared else ""
    before += f", {count(len(found.probes_held), 'probe')}" if found.probes_held else ""
    others = [
        f"{name} {good if held else bad}"
        for name, held, good, bad in (
            ("memory", found.memory_written, "written", "READ UNWRITTEN"),
            ("inputs", found.inputs_kept, "kept", "CHANGED"),
            ("precision", found.precision_kept, "kept", "LOST"),
        )
        if held is not None
    ]
    said = " · ".join(filter(None, (tests, outputs, before, *others, one_line(found.detail))))
    if aside := found.tests_set_aside:
        more = f" and {len(aside) - _SHOWN_ASIDE} more" if len(aside) > _SHOWN_ASIDE else ""
        said += f"\n{count(len(aside), 'test')} set aside: {one_line(', '.join(aside[:_SHOWN_ASIDE]))}{more}"
    return said


def _patch(patch: PatchInfo | None) -> str:
    if patch is None:
        return "none"
    outside = [one_line(file.path) for file in patch.files if not file.in_scope]
    scope = f"OUT OF SCOPE: {', '.join(outside[:3])}" if outside else "in scope"
    source = " · best of the attempt" if patch.source == "best" else ""
    files = count(len(patch.files), "file")
    return f"{files}, +{patch.added} -{patch.removed} lines, {scope}{source} · sha256 {patch.sha256[:12]}"


def _from(result: Result) -> str:
    if (start := result.start) is None:
        return ""
    parent = next((one for one in start.tried if one.n == start.parent), None)
    if parent is None or parent.speedup is None:
        return f"base, with what {count(start.before, 'attempt')} before came to" if start.before else "base"
    return f"the patch of {one_line(result.identity.label)}.{parent.n} ({ratio(parent.speedup)})"


def _agent(result: Result) -> str:
    identity = result.identity
    model = f" · model {identity.model}" if identity.model else ""
    return one_line(f"{identity.agent} {identity.agent_version}{model}")


def _prompt(result: Result) -> str:
    """The template, where it is not the common one, and what the prompt gave away."""
    check, template = result.prompt_check, result.identity.prompt_template
    if check is None or not check.blocks:
        return "" if template.startswith("optimize@") else template
    found = ", ".join(part.name for part in check.parts if part.status in ("leaks", "foreign"))
    said = "LEAKS THE SOLUTION" if check.status == "leaks" else "TEXT OF ANOTHER REPOSITORY"
    return f"{template}, {said} ({found}), allowed by --allow-leak"


def _outcome(outcome: Outcome) -> str:
    said: str = outcome.kind if outcome.infra_kind is None else f"{outcome.kind} ({outcome.infra_kind})"
    if outcome.kind == "finished":
        said += "" if outcome.finish_called else ", without calling finish"
    else:
        said += f" in {outcome.phase}"
    if outcome.exit_code is not None:
        said += f", exit code {outcome.exit_code}"
    if outcome.signal:
        said += f", signal {outcome.signal}"
    said += f": {one_line(outcome.detail)}" if outcome.detail else ""
    return said + (f"\n{plain(outcome.evidence)}" if outcome.evidence else "")


def _metrics(metrics: Sequence[MetricResult]) -> Table:
    rows = []
    for metric in metrics:
        guard = ""
        if metric.guard is not None:
            held = {True: "held", False: "BROKEN", None: "not checked"}[metric.guard_held]
            guard = f"{held}, at {'most ' if metric.direction == 'lower' else 'least 1/'}{metric.guard:g}x"
        rows.append(
            [
                metric.name + (" *" if metric.primary else ""),
                quantity(metric.base_median, metric.unit),
                quantity(metric.candidate_median, metric.unit),
                ratio(metric.estimate.speedup),
                interval(metric.estimate.interval),
                guard,
            ]
        )
    shown = table(
        ["metric", "base", "candidate", "speedup", "interval", "guard"], rows, right=("base", "candidate", "speedup")
    )
    if not any(row[-1] for row in rows):
        shown.columns.pop()
    return shown


def _findings(findings: Sequence[Finding]) -> RenderableType:
    parts: list[RenderableType] = [Text("findings", "bold")]
    for finding in findings:
        line = Text.assemble((f"{finding.severity:<6} ", _SEVERITIES[finding.severity]), f"{plain(finding.id)}: ")
        parts.append(Padding(line.append(one_line(finding.message)), (0, 0, 0, 2)))
        if finding.evidence:
            parts.append(Padding(Text(plain(finding.evidence), "dim"), (0, 0, 0, 9)))
        if finding.remedy:
            parts.append(Padding(Text(f"→ {one_line(finding.remedy)}", "cyan"), (0, 0, 0, 9)))
    return Group(*parts)


def _usage(usage: Usage) -> str:
    parts = [count(usage.steps, "step")]
    if usage.input_tokens or usage.output_tokens:
        cached = f" ({usage.cached_tokens:,} cached)" if usage.cached_tokens else ""
        parts.append(f"{usage.input_tokens:,}{cached} + {usage.output_tokens:,} tokens")
        parts.append("price unknown" if usage.usd is None else dollars(usage.usd))
    parts.append(duration(usage.wall_seconds))
    if usage.seconds_to_first_edit is not None:
        parts.append(f"first edit after {duration(usage.seconds_to_first_edit)}")
    if usage.seconds_to_first_gain is not None:
        parts.append(f"first gain after {duration(usage.seconds_to_first_gain)}")
    return " · ".join(parts)


def _cost(verdict: Verdict) -> str:
    cost = verdict.cost
    if not cost.wall_seconds:
        return ""
    return f"{duration(cost.wall_seconds)} for the verdict, {duration(cost.lane_seconds)} of them timing " + (
        f"{count(cost.samples, 'sample')}" if cost.samples else "nothing"
    )


def shown_path(folder: Path) -> str:
    """A path as it can be pasted: relative where it is below the working folder."""
    return str(folder.relative_to(folder.cwd())) if folder.is_relative_to(folder.cwd()) else str(folder)


def _environment(facts: Mapping[str, Any], sandbox: str) -> str:
    """One line of `measure.host.host_facts`, as far as it is there."""
    # As others may have written it.
    cpu = facts["cpu"] if isinstance(facts.get("cpu"), dict) else {}
    gpus = facts["gpus"] if isinstance(facts.get("gpus"), list) else []
    kinds = Counter(f"{gpu.get('name')}, driver {gpu.get('driver')}" for gpu in gpus if isinstance(gpu, dict))
    # What the task ran on tells more than what stands beside the harness.
    packages = facts.get("task_packages") or facts.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    cores = cpu.get("cores")
    parts = [
        f"{cpu.get('model', 'unknown CPU')}, {count(cores if isinstance(cores, int) else 0, 'core')}",
        *(f"{n} x {kind}" if n > 1 else kind for kind, n in kinds.items()),
        f"Python {facts.get('python', 'unknown')}",
        *(f"{name} {packages[name]}" for name in ("torch", "triton") if packages.get(name)),
        f"sandbox {sandbox}",
    ]
    return one_line(" · ".join(parts))
