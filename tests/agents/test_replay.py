"""Recorded attempts once more, with the model's server gone: the same bytes, or where they differ."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from omniperf.agents.arms.replay import ReplayAgent
from omniperf.agents.discover import load_agent
from omniperf.agents.protocol import Screening
from omniperf.agents.tools import SessionTools
from omniperf.agents.work import Work
from omniperf.errors import UsageError
from omniperf.gateway import backoff
from omniperf.gateway.process import Gateway
from omniperf.gateway.recording import EXCHANGES
from omniperf.record import AttemptSpec, as_collected, now
from omniperf.results.events import ignore
from omniperf.results.journal import Journal
from omniperf.results.schema import Verdict
from omniperf.results.store import read_lines
from omniperf.sweep.run import run_task
from omniperf.tasks.schema import Limits
from tests.agents.conftest import KEY
from tests.agents.loopback import Fail, Loopback, Say
from tests.agents.test_model_agent import EDIT, FINISH, QUICK, bash, options

if TYPE_CHECKING:
    from pathlib import Path

    from omniperf.measure.bench import Bench
    from omniperf.results.schema import Outcome
    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task

COMMIT = ("commit", {"message": "use a dict"})
FASTER = "+    return list(dict.fromkeys(items))"
# Attempts that measure nothing: what the model's server did, through which API, and the limit of steps.
ATTEMPTS: dict[str, tuple[tuple[Say | Fail, ...], str, int]] = {
    "a call that failed, a stream that broke, two tools at once": (
        (
            Fail(529, "overloaded_error"),
            Say("", (EDIT, bash("date; cat toy/order.py"))),
            Say("y" * 200, cut=True),
            Say("", (COMMIT,)),
            FINISH,
            FINISH,
        ),
        "responses",
        40,
    ),
    "malformed calls, and no more": (
        (
            Say("", (("bash", "{no"), ("nothing", {}), ("edit", {"command": "view", "path": "gone.py"}))),
            Say("", (EDIT,)),
            Say("Done?"),
            Say("Done."),
        ),
        "chat",
        40,
    ),
    "out of steps": ((Say("", (EDIT,)), *(Say("", (bash("true"),)),) * 5), "chat", 3),
    "refused": ((Say("", (EDIT, COMMIT)), Say("I will not.", stop="refusal")), "anthropic", 40),
}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(backoff, "FIRST_WAIT", 0.01)


Attempt = Callable[..., "tuple[Path, Outcome, bytes]"]


@pytest.fixture
def work(bench: Bench, tmp_path: Path) -> Attempt:
    """The work of one attempt, without the verdict after it: its folder, its outcome, its patch.

    `usd` are a sweep's, which all its attempts share.
    """

    def go(agent: str, given: dict[str, str], steps: int = 40, usd: float = math.inf) -> tuple[Path, Outcome, bytes]:
        folder = tmp_path / agent
        mine = replace(bench, task=bench.task.model_copy(update={"limits": Limits(steps=steps)}))
        with Gateway() as gateway, Journal(folder / "journal.jsonl") as journal:
            gateway.shared.allow(usd)
            journal.write("attempt", agent=agent, options=given)
            workspace = bench.workspace(f"{agent}-1")
            doing = Work(mine, cast("Any", None), {}, journal, ignore, gateway)
            made = ReplayAgent() if agent == "replay" else load_agent(agent)
            outcome = doing.run(made, workspace, "Make distinct faster.", given)
            patch = doing.choose(workspace).patch
            used = doing.usage(0.0, Verdict())
            journal.write("collected", **as_collected(patch, "final", outcome, used, doing.model, (), now()))
        return folder, outcome, patch.data

    return go


def recorded(
    work: Attempt, script: tuple[Say | Fail, ...], api: str, steps: int = 40, usd: float = math.inf
) -> tuple[Path, Outcome, bytes]:
    """An attempt whose server is gone by now."""
    server = Loopback()
    try:
        server.play(script)
        return work("anthropic" if api == "anthropic" else "openai", options(server, api), steps, usd)
    finally:
        server.close()


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_comes_out_again_byte_for_byte(name: str, work: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    script, api, steps = ATTEMPTS[name]
    folder, outcome, patch = recorded(work, script, api, steps)
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY")
    again, replayed, same = work("replay", {"from": str(folder)}, steps)
    assert replayed == outcome
    assert (same, FASTER.encode() in same) == (patch, True)
    assert (again / "trajectory.jsonl").read_bytes() == (folder / "trajectory.jsonl").read_bytes()


def test_an_attempt_that_measured_comes_out_again_with_what_was_measured_then(
    make_task: Callable[..., Task], settings: Settings, bubblewrap: None
) -> None:
    script = [
        Say("I look.", (bash("date; git log --format=%H; ls -l toy"), ("profile", {})), thinking="hm"),
        Say("", (EDIT,)),
        Say("", (("test", {}), ("benchmark", {}))),
        Say("", (COMMIT,)),
        FINISH,
    ]
    task, server = make_task(QUICK), Loopback()
    server.play(script)
    spec = AttemptSpec(run_id="", agent="anthropic", n=0, options=options(server, "anthropic"))
    run, (result,) = run_task(task, spec, 1, settings, ignore)
    server.close()
    folder = run / "toy" / "anthropic.1"
    spec = replace(spec, agent="replay", options={"from": str(folder)})
    run, (replayed,) = run_task(task, spec, 1, settings, ignore)
    again = run / "toy" / "replay.1"
    assert replayed.outcome == result.outcome
    for file in ("model_patch.diff", "trajectory.jsonl"):
        assert (again / file).read_bytes() == (folder / file).read_bytes()
    assert (replayed.usage.usd, replayed.identity.model) == (result.usage.usd, result.identity.model)
    measured = [
        [{**line, "t": ""} for line in read_lines(where / "journal.jsonl") if line["kind"] in KINDS]
        for where in (folder, again)
    ]
    assert measured[0] == measured[1]
    assert [line["kind"] for line in measured[0]] == ["profile", "tests", "screening"]


@pytest.mark.parametrize(
    "last",
    [
        Say("", (bash("sleep 60"), bash("echo late >> toy/order.py"))),
        Say("", (bash("echo early >> toy/order.py"),), stall=60),
    ],
    ids=["in a command", "in a reply"],
)
def test_an_attempt_that_ran_out_of_minutes_comes_out_again(
    last: Say, make_task: Callable[..., Task], settings: Settings, bubblewrap: None
) -> None:
    task, server = make_task("limits: {minutes: 0.2}"), Loopback()
    server.play((Say("", (EDIT,)), Say("", (bash("sleep 1"), COMMIT)), last, FINISH))
    spec = AttemptSpec(run_id="", agent="openai", n=0, options=options(server, "chat"), verify=False)
    run, (result,) = run_task(task, spec, 1, settings, ignore)
    server.close()
    folder = run / "toy" / "openai.1"
    assert (result.outcome.kind, "0.2 minutes" in result.outcome.detail) == ("budget", True)
    spec = replace(spec, agent="replay", options={"from": str(folder)})
    run, (replayed,) = run_task(task, spec, 1, settings, ignore)
    assert replayed.outcome == result.outcome
    for file in ("model_patch.diff", "trajectory.jsonl"):
        assert (run / "toy" / "replay.1" / file).read_bytes() == (folder / file).read_bytes()


RANDOM = 'echo "# $(od -An -N8 -tx8 /dev/urandom)" >> toy/order.py'


@pytest.mark.parametrize("steps", [40, 2], ids=["finished", "out of steps"])
def test_a_replay_whose_patch_is_another_one_says_so(steps: int, work: Attempt) -> None:
    script = (Say("", (EDIT, bash(RANDOM))), Say("", (COMMIT,)), FINISH, FINISH)
    folder, outcome, patch = recorded(work, script, "chat", steps)
    _, replayed, other = work("replay", {"from": str(folder)}, steps)
    assert (outcome.kind, replayed.kind) == ("finished" if steps == 40 else "budget", "agent_error")
    assert replayed.detail.startswith("the replay diverged: the patch of the final state is another one")
    assert other != patch


@pytest.mark.parametrize("more", ["", RANDOM], ids=["the same", "another one"])
def test_the_best_patch_is_compared_where_it_was_chosen(
    more: str, make_task: Callable[..., Task], settings: Settings, bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, server = make_task(), Loopback()
    undone = bash("git checkout -q HEAD~1 -- toy/order.py")
    # On a busy host nothing can be screened: what the recording says of it is set, as a replay never screens itself.
    screenings = iter([Screening("faster", 5.0, 4.5, 5.5, 4, outputs_equal=True)])
    monkeypatch.setattr(SessionTools, "_screen", lambda *_: next(screenings))
    server.play([Say("", (EDIT, bash(more or "true"), ("benchmark", {}), COMMIT, undone)), FINISH, FINISH])
    spec = AttemptSpec(run_id="", agent="openai", n=0, options=options(server, "chat"), verify=False)
    run, (result,) = run_task(task, spec, 1, settings, ignore)
    server.close()
    assert (result.outcome.kind, result.patch and result.patch.source) == ("finished", "best")
    spec = replace(spec, agent="replay", options={"from": str(run / "toy" / "openai.1")})
    _, (replayed,) = run_task(task, spec, 1, settings, ignore)
    apart = "the replay diverged: the patch of the best state is another one" if more else ""
    assert (replayed.outcome.kind, replayed.outcome.detail) == ("agent_error" if more else "finished", apart)
    assert (replayed.patch == result.patch) is not bool(more)


def test_a_replay_has_the_limits_of_the_recording(
    make_task: Callable[..., Task], settings: Settings, bubblewrap: None
) -> None:
    task, server = make_task(), Loopback()
    server.play([Say("", (EDIT,)), *[Say("", (bash("true"),))] * 9])
    limits = {"steps": 6, "usd": 0.75}
    spec = AttemptSpec(run_id="", agent="openai", n=0, options=options(server, "chat"), limits=limits, verify=False)
    run, (result,) = run_task(task, spec, 1, settings, ignore)
    server.close()
    folder = run / "toy" / "openai.1"
    assert (result.outcome.kind, result.outcome.detail) == ("budget", "the attempt's limit of 6 steps is reached")
    assert "[left: 5 steps" in (folder / EXCHANGES).read_text()
    spec = replace(spec, agent="replay", options={"from": str(folder)}, limits={})
    run, (replayed,) = run_task(task, spec, 1, settings, ignore)
    assert (replayed.outcome, replayed.patch) == (result.outcome, result.patch)
    again = run / "toy" / "replay.1"
    assert (again / "trajectory.jsonl").read_bytes() == (folder / "trajectory.jsonl").read_bytes()


def test_an_attempt_whose_sweep_had_no_more_usd_comes_out_again(work: Attempt) -> None:
    script = (Say("", (EDIT,)), Say("", (COMMIT,), usage=(100, 0, 0, 10_000)), FINISH, FINISH)
    folder, outcome, patch = recorded(work, script, "anthropic", usd=0.5)  # of which the second call took 0.20
    assert (outcome.kind, "the sweep's USD are spent" in outcome.detail) == ("budget", True)
    again, replayed, same = work("replay", {"from": str(folder)}, usd=0.0)
    assert (replayed, same, FASTER.encode() in same) == (outcome, patch, True)
    assert (again / "trajectory.jsonl").read_bytes() == (folder / "trajectory.jsonl").read_bytes()


def test_a_replay_that_ends_at_a_limit_elsewhere_says_where(work: Attempt) -> None:
    script = (Say("", (EDIT,)), *(Say("", (bash("true"),)),) * 5)
    folder, outcome, _ = recorded(work, script, "chat", 3)
    lines = (folder / "trajectory.jsonl").read_text().splitlines(keepends=True)
    (folder / "trajectory.jsonl").write_text("".join([*lines, lines[-1]]))
    _, replayed, _ = work("replay", {"from": str(folder)}, 3)
    assert (outcome.kind, replayed.kind) == ("budget", "agent_error")
    assert f"the replay diverged: line {len(lines) + 1} of trajectory.jsonl differs" in replayed.detail
    assert replayed.detail.endswith("(it ended with: the attempt's limit of 3 steps is reached)")


KINDS = ("screening", "tests", "profile")


def test_a_replay_that_differs_says_where(work: Attempt) -> None:
    script = (Say("", (bash("cat toy/order.py | wc -l"), EDIT)), Say("", (COMMIT,)), FINISH, FINISH)
    folder, _, _ = recorded(work, script, "chat")
    text = (folder / EXCHANGES).read_text()
    (folder / EXCHANGES).write_text(text.replace('"content":"9\\n[exit', '"content":"10\\n[exit'))
    assert text != (folder / EXCHANGES).read_text()
    _, outcome, _ = work("replay", {"from": str(folder)})
    assert outcome.kind == "agent_error"
    assert "exchange 2 differs from the recorded one at /messages/3/content: recorded" in outcome.detail
    assert 'recorded "10\\n' in outcome.detail
    assert 'seen "9\\n' in outcome.detail


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    arm = ReplayAgent()
    with pytest.raises(UsageError, match="was given no attempt"):
        arm.check({})
    with pytest.raises(UsageError, match="is no attempt"):
        arm.check({"from": str(tmp_path)})
    (tmp_path / "journal.jsonl").write_text('{"kind": "attempt", "agent": "null"}\n')
    with pytest.raises(UsageError, match="is an attempt of the agent 'null'"):
        arm.check({"from": str(tmp_path)})
