"""Which attempt starts when: with an engine that only writes results, since what is asked here is the order."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.prompt.history import with_history
from omniperf.prompt.render import Prompt
from omniperf.results import schema
from omniperf.results.events import Event, ignore
from omniperf.results.journal import Journal
from omniperf.results.start import read_start
from omniperf.results.store import load_result
from omniperf.settings import load_settings
from omniperf.sweep.chain import Chain
from omniperf.sweep.collected import collected
from omniperf.sweep.engine import Ended, Item, Report
from omniperf.sweep.plan import Plan, make_plan
from omniperf.sweep.scheduler import Scheduler
from omniperf.sweep.spec import Contender, Sweep
from omniperf.tasks.load import load_task, task_sha256
from tests.example_result import example_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from omniperf.settings import Settings

QUICKSTART = task_sha256(load_task("quickstart", load_settings()))
MODEL = Contender(agent="anthropic", label="a-model", options={"model": "claude-opus-5-5"})


class Engine:
    """Ends each attempt at the next look, as `comes_to` says: the fields of its outcome, and its USD."""

    def __init__(self, capacity: int, comes_to: Callable[[Item, int], tuple[dict[str, Any] | None, float]]) -> None:
        self.capacity, self._comes_to = capacity, comes_to
        self.started: list[Item] = []
        self.most_at_once = 0
        self._running: list[Item] = []

    def prepare(self, items: Sequence[Item]) -> None:
        self.prepared = [item.id for item in items]

    def submit(self, item: Item) -> None:
        self.started.append(item)
        self._running.append(item)
        self.most_at_once = max(self.most_at_once, len(self._running))

    def reports(self, seconds: float | None) -> list[Report]:
        del seconds
        ended, self._running = self._running, []
        for item in ended:
            tries = sum(other.id == item.id for other in self.started)
            outcome, usd = self._comes_to(item, tries)
            if outcome is not None:
                write(Path(item.folder), outcome, usd)
        return [Ended(item.id, "") for item in ended]

    def close(self) -> None:
        pass


def write(folder: Path, outcome: dict[str, Any], usd: float, **identity: object) -> None:
    """A result where the plan expects it; `identity` says what of it is another's."""
    label, _, n = folder.name.rpartition(".")
    own = {"run_id": "run", "task_id": folder.parent.name, "label": label, "n": int(n), "task_sha256": QUICKSTART}
    result = example_result(outcome=schema.Outcome(**outcome))
    result = result.model_copy(
        update={
            "identity": result.identity.model_copy(update={**own, **identity}),
            "usage": result.usage.model_copy(update={"usd": usd}),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(result.model_dump_json(by_alias=True))


def begin(folder: Path) -> None:
    """An attempt that may have asked a model, and that nothing can be gone on from."""
    folder.mkdir(parents=True)
    (folder / "trajectory.jsonl").write_text("")


def fine(item: Item, tries: int) -> tuple[dict[str, Any] | None, float]:
    del item, tries
    return {"kind": "finished"}, 0.4


@pytest.fixture
def plan(settings: Settings) -> Callable[..., Plan]:
    def make(**fields: object) -> Plan:
        whole = {"tasks": ("quickstart",), "agents": (MODEL,), **fields}
        return make_plan(Sweep.model_validate({"schema": "omniperf/sweep/v1", **whole}), "run", settings)

    return make


def schedule(plan: Plan, engine: Engine, settings: Settings, **more: Any) -> Scheduler:
    emit, wanted = more.get("emit", ignore), more.get("wanted", lambda: True)
    scheduler = Scheduler(plan, settings.results / "run", engine, settings, emit, wanted)
    scheduler.prepare()
    scheduler.run()
    return scheduler


def test_all_attempts_are_made_and_no_more_at_once_than_fit(plan: Callable[..., Plan], settings: Settings) -> None:
    engine = Engine(3, fine)
    progress = schedule(plan(attempts=10), engine, settings).progress
    assert [item.id for item in engine.started] == [f"quickstart/a-model.{n}" for n in range(1, 11)]
    assert engine.most_at_once == 3
    assert engine.prepared == ["quickstart/a-model.1"]
    assert (progress.done, progress.stopped, round(progress.spent, 6)) == (10, "", 4.0)


def test_the_budget_holds_even_for_what_runs_at_once(plan: Callable[..., Plan], settings: Settings) -> None:
    engine = Engine(8, lambda item, tries: ({"kind": "finished"}, float(item.spec["limits"]["usd"])))  # type: ignore[index]
    progress = schedule(plan(attempts=10, usd=12.0), engine, settings).progress
    assert [item.spec["limits"] for item in engine.started] == [{"usd": 5.0}, {"usd": 5.0}, {"usd": 2.0}]
    assert progress.spent == 12.0
    assert progress.stopped == "the sweep's 12 USD are spent (--usd allows more)"


def test_what_is_not_used_is_there_for_others(plan: Callable[..., Plan], settings: Settings) -> None:
    engine = Engine(8, fine)
    progress = schedule(plan(attempts=10, usd=12.0), engine, settings).progress
    assert progress.done == 10
    assert engine.most_at_once == 2
    assert {item.spec["limits"]["usd"] for item in engine.started} == {5.0}  # type: ignore[index]


def test_what_costs_nothing_is_made_when_all_is_spent(plan: Callable[..., Plan], settings: Settings) -> None:
    def spends(item: Item, tries: int) -> tuple[dict[str, Any] | None, float]:
        del tries
        return {"kind": "finished"}, float(item.spec["limits"].get("usd", 0.0))  # type: ignore[attr-defined]

    engine = Engine(4, spends)
    progress = schedule(plan(agents=(MODEL, Contender(agent="null")), attempts=4, usd=5.0), engine, settings).progress
    assert sorted(item.id for item in engine.started if "null" in item.id) == [
        f"quickstart/null.{n}" for n in range(1, 5)
    ]
    assert (progress.done, progress.spent) == (5, 5.0)
    assert progress.stopped == "the sweep's 5 USD are spent (--usd allows more)"


def test_what_the_provider_ended_is_tried_again_and_its_first_try_is_kept(
    plan: Callable[..., Plan], settings: Settings
) -> None:
    def once(item: Item, tries: int) -> tuple[dict[str, Any] | None, float]:
        if item.id.endswith(".2") and tries == 1:
            return {"kind": "infra_error", "infra_kind": "network", "detail": "It broke."}, 0.1
        return fine(item, tries)

    engine = Engine(1, once)
    progress = schedule(plan(attempts=3), engine, settings).progress
    assert [item.id[-1] for item in engine.started] == ["1", "2", "3", "2"]
    assert progress.done == 3
    assert round(progress.spent, 6) == 1.3
    kept = load_result(settings.results / "run" / "interrupted" / "quickstart" / "a-model.2.1")
    assert kept.outcome.detail == "It broke."


def test_a_patch_whose_measurement_failed_is_only_measured_again(plan: Callable[..., Plan], settings: Settings) -> None:
    """What the agent did is paid for: no second try of it is made, and it counts once."""
    seen: list[bool] = []

    def device_lost(item: Item, tries: int) -> tuple[dict[str, Any] | None, float]:
        folder = Path(item.folder)
        seen.append(collected(folder) is not None)
        if tries > 1:
            return {"kind": "finished"}, 0.3
        folder.mkdir(parents=True)
        (folder / "model_patch.diff").write_bytes(b"")
        with Journal(folder / "journal.jsonl") as journal:
            journal.write("collected", sha256=sha256(b"").hexdigest(), tree="t", files=[])
        return {"kind": "infra_error", "infra_kind": "device", "detail": "It is gone.", "phase": "verify"}, 0.3

    engine = Engine(1, device_lost)
    progress = schedule(plan(), engine, settings).progress
    assert seen == [False, True]
    assert (progress.done, progress.spent) == (1, pytest.approx(0.3))
    assert not (settings.results / "run" / "interrupted").exists()


def test_an_attempt_whose_process_dies_is_tried_three_times(plan: Callable[..., Plan], settings: Settings) -> None:
    engine = Engine(1, lambda item, tries: (None, 0.0) if item.id.endswith(".1") else fine(item, tries))
    said: list[Event] = []
    progress = schedule(plan(attempts=2), engine, settings, emit=said.append).progress
    assert [item.id[-1] for item in engine.started].count("1") == 3
    assert progress.done == 1
    assert "Its process ended" in said[-1].message


def test_the_same_failure_three_times_in_a_row_stops_the_sweep(plan: Callable[..., Plan], settings: Settings) -> None:
    def refused(item: Item, tries: int) -> tuple[dict[str, Any] | None, float]:
        said = f"The key was refused (request {len(item.id)}-{tries})."
        return {"kind": "infra_error", "infra_kind": "auth", "detail": said}, 0.0

    engine = Engine(1, refused)
    progress = schedule(plan(attempts=50), engine, settings).progress
    assert len(engine.started) == 3
    assert progress.stopped.startswith("3 attempts in a row failed alike: The key was refused")


def test_what_has_a_result_is_not_made_again(plan: Callable[..., Plan], settings: Settings) -> None:
    for n, kind in enumerate(("finished", "budget", "agent_error", "cancelled", "infra_error", "harness_error"), 1):
        write(settings.results / "run" / f"quickstart/a-model.{n}", {"kind": kind}, 0.4)
    engine = Engine(4, fine)
    progress = schedule(plan(attempts=7), engine, settings).progress
    assert [item.id[-1] for item in engine.started] == ["4", "5", "6", "7"]
    assert progress.done == 7


@pytest.mark.parametrize("other", [{"run_id": "x"}, {"task_sha256": "0" * 64}, {"n": 2}, {"label": "b"}])
def test_a_result_of_something_else_is_none(
    other: dict[str, object], plan: Callable[..., Plan], settings: Settings
) -> None:
    place = settings.results / "run" / "quickstart" / "a-model.1"
    write(place, {"kind": "finished"}, 0.4, **other)
    engine = Engine(1, fine)
    assert schedule(plan(), engine, settings).progress.done == 1
    assert len(engine.started) == 1
    assert (settings.results / "run" / "interrupted" / "quickstart" / "a-model.1.1" / "result.json").is_file()


def test_a_damaged_result_stops_nothing(plan: Callable[..., Plan], settings: Settings) -> None:
    place = settings.results / "run" / "quickstart" / "a-model.1"
    write(place, {"kind": "finished"}, 0.4)
    (place / "result.json").write_text("{")
    assert schedule(plan(attempts=2), Engine(1, fine), settings).progress.done == 2


def test_what_earlier_tries_cost_is_spent(plan: Callable[..., Plan], settings: Settings) -> None:
    """Of a try that left no result nobody knows what it used: its whole limit counts, if it asked a model at all."""
    run = settings.results / "run"
    write(run / "interrupted" / "quickstart" / "a-model.1.1", {"kind": "infra_error"}, 3.0)
    begin(run / "interrupted" / "quickstart" / "a-model.1.2")
    (run / "interrupted" / "quickstart" / "a-model.1.3").mkdir()
    write(run / "quickstart" / "a-model.2", {"kind": "cancelled"}, 1.0)
    engine = Engine(1, fine)
    progress = schedule(plan(attempts=3, usd=10.0), engine, settings).progress
    assert [item.spec["limits"] for item in engine.started] == [
        {"usd": 1.0},
        {"usd": pytest.approx(0.6)},
        {"usd": pytest.approx(0.2)},
    ]
    assert progress.spent == pytest.approx(10.2)


def test_what_a_killed_try_may_have_cost_is_given_to_nobody(plan: Callable[..., Plan], settings: Settings) -> None:
    """It left no result, so its whole limit counts, before anything starts: neither it nor another has that again."""
    for n in (1, 2):
        begin(settings.results / "run" / "quickstart" / f"a-model.{n}")
    engine, allowed = Engine(1, fine), list[float]()
    scheduler = Scheduler(
        plan(attempts=3, usd=12.0), settings.results / "run", engine, settings, ignore, lambda: True, allowed.append
    )
    progress = scheduler.run()
    assert allowed == [2.0]
    assert [item.spec["limits"]["usd"] for item in engine.started] == pytest.approx([2.0, 1.6, 1.2])  # type: ignore[index]
    assert progress.spent == pytest.approx(11.2)
    again = Scheduler(plan(attempts=3, usd=12.0), settings.results / "run", engine, settings, ignore, lambda: True)
    assert again.run().spent == pytest.approx(11.2)


def test_a_try_whose_process_died_costs_its_limit_once(plan: Callable[..., Plan], settings: Settings) -> None:
    def dies(item: Item, tries: int) -> tuple[dict[str, Any] | None, float]:
        if tries > 1 or item.id.endswith(".2"):
            return fine(item, tries)
        begin(Path(item.folder))
        return None, 0.0

    engine = Engine(1, dies)
    progress = schedule(plan(attempts=2, usd=8.0), engine, settings).progress
    limits = [(item.id[-1], item.spec["limits"]["usd"]) for item in engine.started]  # type: ignore[index]
    assert limits == [("1", 5.0), ("2", 3.0), ("1", pytest.approx(2.6))]
    assert progress.spent == pytest.approx(5.8)


def test_no_two_attempts_share_a_folder(plan: Callable[..., Plan], settings: Settings) -> None:
    engine = Engine(9, fine)
    labels = ("a", "a-b")
    agents = tuple(Contender(agent="null", label=label) for label in labels)
    schedule(plan(agents=agents, attempts=3), engine, settings)
    assert len({item.scratch for item in engine.started}) == len(engine.started) == 6


def test_who_asks_it_to_stop_gets_what_was_running(plan: Callable[..., Plan], settings: Settings) -> None:
    engine = Engine(2, fine)
    progress = schedule(plan(attempts=10), engine, settings, wanted=lambda: len(engine.started) < 4).progress
    assert (progress.done, progress.stopped) == (4, "interrupted")


def test_who_asks_while_nothing_more_fits_hears_that_it_was_heard(
    plan: Callable[..., Plan], settings: Settings
) -> None:
    class Slow(Engine):
        looks = 0

        def reports(self, seconds: float | None) -> list[Report]:
            self.looks += 1
            return super().reports(seconds) if self.looks > 1 else []

    engine, said = Slow(1, fine), list[Event]()
    progress = schedule(
        plan(attempts=3), engine, settings, emit=said.append, wanted=lambda: not engine.started
    ).progress
    assert (progress.done, progress.stopped) == (1, "interrupted")
    assert [one.message for one in said if "finishing what is running (1)" in one.message]


def test_who_asks_when_all_was_started_gets_all(plan: Callable[..., Plan], settings: Settings) -> None:
    engine = Engine(3, fine)
    progress = schedule(plan(attempts=3), engine, settings, wanted=lambda: not engine.started).progress
    assert (progress.done, progress.stopped) == (3, "")


def chained(speedups: dict[int, float]) -> Callable[[Item, int], tuple[dict[str, Any] | None, float]]:
    """Results with the patches and speedups of these attempts; of the others, no change."""

    def comes_to(item: Item, tries: int) -> tuple[None, float]:
        del tries
        folder = Path(item.folder)
        write(folder, {"kind": "finished"}, 0.1)
        (folder / "model_patch.diff").write_text(f"+++ b/x\n+{folder.name}\n")
        found = load_result(folder)
        n = found.identity.n
        claim = schema.Interval(low=speedups.get(n, 0.9) - 0.01, high=9.0, confidence=0.99)
        assert found.verdict.speedup is not None
        assert found.patch is not None
        estimate = found.verdict.speedup.model_copy(update={"speedup": speedups.get(n, 0.9), "claim": claim})
        class_ = "improved" if n in speedups else "no_change"
        verdict = found.verdict.model_copy(update={"class_": class_, "speedup": estimate})
        patch = found.patch.model_copy(update={"sha256": folder.name})
        found = found.model_copy(update={"verdict": verdict, "patch": patch, "start": read_start(folder)})
        (folder / "result.json").write_text(found.model_dump_json(by_alias=True))
        return None, 0.0

    return comes_to


TWO_AND_ONE_WITHOUT_A_CHAIN = (Contender(agent="pattern", label="a"), Contender(agent="pattern", label="b"), "oracle")


def test_attempts_of_a_chain_wait_for_each_other_and_for_nobody_else(
    plan: Callable[..., Plan], settings: Settings
) -> None:
    engine = Engine(9, chained({}))
    progress = schedule(
        plan(agents=TWO_AND_ONE_WITHOUT_A_CHAIN, attempts=3, strategy="refine"), engine, settings
    ).progress
    assert progress.done == 9
    assert engine.most_at_once == 5  # three of the oracle's, which brings its patch with it, and one of each chain
    for label in ("a", "b"):
        own = [item.id[-1] for item in engine.started if f"/{label}." in item.id]
        assert own == ["1", "2", "3"]
    assert not list(settings.results.glob("run/quickstart/oracle.*/start.json"))


def test_an_attempt_begins_from_the_best_claim_before_it(plan: Callable[..., Plan], settings: Settings) -> None:
    whole = plan(agents=TWO_AND_ONE_WITHOUT_A_CHAIN[:1], attempts=12, strategy="refine")
    schedule(whole, Engine(4, chained({2: 1.3, 4: 1.2, 7: 1.5})), settings)
    run = settings.results / "run" / "quickstart"
    starts = {n: read_start(run / f"a.{n}") for n in range(1, 13)}
    assert [one and one.parent for one in starts.values()] == [None, None, 2, 2, 2, 2, 2, 7, 7, 7, 7, 7]
    last = starts[12]
    assert last is not None
    assert (last.before, last.patch_sha256) == (11, "a.7")
    assert [one.n for one in last.tried] == [6, 7, 8, 9, 10, 11]
    eleventh = starts[7]
    assert eleventh is not None
    assert [one.n for one in eleventh.tried] == [1, 2, 3, 4, 5, 6]
    assert eleventh.tried[1].change == "+a.2"


def test_a_chain_that_lost_an_attempt_begins_it_from_where_it_began(
    plan: Callable[..., Plan], settings: Settings
) -> None:
    whole = plan(agents=TWO_AND_ONE_WITHOUT_A_CHAIN[:1], attempts=4, strategy="refine")
    comes_to = chained({1: 1.1, 2: 1.2, 3: 1.3})
    schedule(whole, Engine(1, comes_to), settings)
    place = settings.results / "run" / "quickstart" / "a.2"
    before = (place / "start.json").read_bytes()
    (place / "result.json").unlink()
    engine = Engine(1, comes_to)
    schedule(whole, engine, settings)
    assert [item.id for item in engine.started] == ["quickstart/a.2"]
    assert (place / "start.json").read_bytes() == before


def test_a_chain_does_not_go_on_without_one_of_its_attempts(plan: Callable[..., Plan], settings: Settings) -> None:
    whole = plan(agents=TWO_AND_ONE_WITHOUT_A_CHAIN[:2], attempts=3, strategy="refine")
    fine_ones = chained({})
    engine = Engine(2, lambda item, tries: (None, 0.0) if item.id.endswith("/a.2") else fine_ones(item, tries))
    progress = schedule(whole, engine, settings).progress
    assert progress.done == 4
    assert "quickstart/a.3" not in [item.id for item in engine.started]


def test_what_is_told_of_earlier_attempts_is_bounded_and_holds_nothing_of_the_harness() -> None:
    tried = [
        schema.Tried(
            n=n, verdict="improved" if n == 3 else "incorrect", speedup=1.4, at_least=1.2,
            files=("x.py",), change="+" + "y" * 800, summary="z" * 500,
        )
        for n in range(1, 8)
    ]  # fmt: skip
    chain = Chain()
    for one in tried * 10:
        chain._ended[len(chain._ended) + 1] = one.model_copy(update={"n": len(chain._ended) + 1})
    prompt = Prompt("Make it faster.", "optimize@2", "0" * 64)
    told = with_history(prompt, chain.start(71)).text
    assert len(told) < 12_000
    assert told.startswith("Make it faster.\n\n## What was tried before\nAttempts before this one: 70")
    assert "wrong: it does not do what base does.\n" in told  # and no figure of it
    assert "holds the patch of attempt 3" in told
    assert with_history(prompt, Chain().start(1)) == prompt
