"""Chains: each attempt goes on from the best verified patch before it, and a sweep that is killed keeps them."""

from __future__ import annotations

import json
import time
from threading import Event
from typing import TYPE_CHECKING

import pytest

from omniperf.errors import UsageError
from omniperf.results.store import load_result
from omniperf.sweep.plan import make_plan
from omniperf.sweep.spec import Sweep
from tests.agents.loopback import Call, Loopback, Say, Step
from tests.conftest import SLOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from omniperf.settings import Settings
    from omniperf.tasks.schema import Task
    from tests.sweep.commands import Sweeps

SET = SLOW.replace("seen = []", "seen, known = [], set()").replace("not in seen", "not in known")
SET = SET.replace("            seen.append(item)", "            known.add(item)\n            seen.append(item)")
ADDED = 'open("toy/more.py", "w").write("")'


class Model:
    """The n-th conversation does what the n-th step says: a command, and what it says of it when it finishes.

    A conversation is known by its prompt; `seen` are all prompts, in order.
    """

    def __init__(self, steps: list[tuple[str, str]]) -> None:
        self.steps, self.seen = steps, list[str]()
        self.hold: dict[int, Event] = {}  # conversations that wait before they finish

    def __call__(self, call: Call) -> Step:
        first = json.dumps(call.body["messages"][0])
        if first not in self.seen:
            self.seen.append(first)
        n = self.seen.index(first)
        command, words = self.steps[n]
        if not any(message["role"] == "assistant" for message in call.body["messages"]):
            return Say("t", (("bash", {"command": command}),))
        if n in self.hold:
            self.hold[n].wait(60)
        return Say("t", (("finish", {"summary": words}),))


def writing(text: str) -> str:
    return f"cat > toy/order.py <<'END'\n{text}END"


def started(sweeps: Sweeps, task: Task, server: Loopback, attempts: int) -> tuple[str, ...]:
    sweeps.env["ANTHROPIC_API_KEY"] = "sk-ant-nobody's"
    file = task.folder.parent / "sweep.yaml"
    options = f"{{model: claude-opus-5-5, base_url: '{server.url}'}}"
    file.write_text(
        f"schema: omniperf/sweep/v1\ntasks: [{task.folder}]\nstrategy: refine\nattempts: {attempts}\n"
        f"agents: [{{agent: anthropic, options: {options}}}]\n"
    )
    return ("sweep", str(file), "--jobs", "3", "--json")


def test_each_attempt_goes_on_from_the_best_before_it_whatever_kills_the_sweep(
    sweeps: Sweeps, make_task: Callable[..., Task], server: Loopback
) -> None:
    task = make_task()
    model = Model(
        [
            (writing(SET), "a set beside the list"),
            (f"python -c '{ADDED}'; grep -c known toy/order.py > /dev/null", "nothing more"),
            (
                writing("import time\n" + SET.replace("    seen, known", "    time.sleep(0.01)\n    seen, known")),
                "slept",
            ),
        ]
    )
    model.hold[1] = Event()
    server.play(model)
    process = sweeps.start(*started(sweeps, task, server, 3))
    deadline = time.monotonic() + 120
    while len(model.seen) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    (run,) = sweeps.settings.results.iterdir()
    second = run / "toy" / "anthropic.2"
    before = (second / "start.json").read_bytes()
    watched = json.loads(sweeps.run("watch", run.name, "--json"))
    process.kill()
    process.communicate()
    model.hold[1].set()
    if load_result(run / "toy" / "anthropic.1").verdict.class_ == "inconclusive":
        pytest.skip("this host is too busy to measure the first attempt")
    assert ["agent from .1"] in [cell["running"] for cell in watched["cells"]]
    sweeps.run("resume", run.name, "--jobs", "3", "--json")

    results = {n: load_result(run / "toy" / f"anthropic.{n}") for n in (1, 2, 3)}
    assert results[1].verdict.class_ == "improved"
    assert [one.start and one.start.parent for one in results.values()][:2] == [None, 1]
    assert (second / "start.json").read_bytes() == before
    assert "known" in (second / "model_patch.diff").read_text()
    assert "toy/more.py" in (second / "model_patch.diff").read_text()
    assert results[2].provenance.base == results[1].provenance.base
    last = results[3].start
    assert last is not None
    claims = {n: one.verdict.speedup.claim for n, one in results.items() if one.verdict.speedup}
    improved = [n for n in (1, 2) if results[n].verdict.class_ == "improved"]
    assert last.parent == max(improved, key=lambda n: claims[n].low)
    assert len(model.seen) == 3
    told = (run / "toy" / "anthropic.3" / "prompt.md").read_text()
    for text in ("a set beside the list", "+    seen, known = [], set()", "nothing more", "`git diff` show it"):
        assert text in told
    for n in improved:
        assert f"surely at least {claims[n].low:.3f} times" in told
    for secret in (
        task.repo.human if task.repo else "",
        "fromkeys",
        str(sweeps.settings.results),
        "workload.py",
        "beats_human",
    ):
        assert secret not in told
    # The claim of each is made at a third of the error that one alone would have.
    assert {round(claim.confidence, 6) for claim in claims.values()} == {round(1 - (1 - 0.99) / 3, 6)}
    of_chain = {one["agent"]: one for one in json.loads((run / "summary.json").read_text())["best_of"]}["anthropic"]
    assert (of_chain["pass_at"], of_chain["opt_at"]) == (None, None)
    assert "from" in sweeps.run("show", run.name)
    assert "the patch of anthropic.1" in sweeps.run("show", f"{run.name}/toy/anthropic.2")
    replayed = ("run", str(task.folder), "--agent", "replay", "--from", str(run / "toy" / "anthropic.3"), "--json")
    (again,) = json.loads(sweeps.run(*replayed))["attempts"]
    assert (again["outcome"]["kind"], again["outcome"]["detail"]) == ("finished", "")
    assert again["patch"]["sha256"] == (results[3].patch and results[3].patch.sha256)


def test_what_is_not_measured_cannot_be_refined(settings: Settings) -> None:
    sweep = Sweep.model_validate({"tasks": ("quickstart",), "agents": ("null",), "strategy": "refine", "verify": False})
    with pytest.raises(UsageError, match="Nothing can be refined that is not measured"):
        make_plan(sweep, "run", settings)
