"""One attempt with each kind of agent, through the real sandbox, and what it leaves behind."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from omniperf import attempt
from omniperf.agents import discover, work
from omniperf.agents.protocol import Outcome, Session
from omniperf.errors import InfraError, UsageError
from omniperf.measure import bench
from omniperf.record import AttemptSpec
from omniperf.results.events import ignore
from omniperf.results.schema import Result
from omniperf.results.store import load_result, read_lines
from omniperf.settings import Settings
from omniperf.sweep.run import run_task
from omniperf.tasks.load import load_task
from omniperf.tasks.schema import Task
from omniperf.workspace import worktree
from omniperf.workspace.patch import NotCollectableError
from tests.conftest import FAST, MEASURED, WORKLOAD, git

pytestmark = MEASURED

FILES = {
    "result.json",
    "model_patch.diff",
    "prompt.md",
    "task.json",
    "journal.jsonl",
    "measurements.jsonl",
    "environment.json",
}


@pytest.fixture
def task(make_task: Callable[..., Task], bubblewrap: None) -> Task:
    return make_task()


def run(task: Task, settings: Settings, agent: str, **options: str) -> tuple[Path, Result]:
    spec = AttemptSpec(run_id="", agent=agent, n=0, options=options)
    folder, results = run_task(task, spec, 1, settings, ignore)
    return folder / task.id / f"{agent}.1", results[0]


def test_the_oracle_improves_and_its_diff_is_the_human_tree(task: Task, settings: Settings, tmp_path: Path) -> None:
    folder, result = run(task, settings, "oracle")
    assert result.outcome.kind == "finished"
    assert result.outcome.finish_called
    assert result.verdict.class_ == "improved"
    assert {path.name for path in folder.iterdir()} == FILES
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(task.folder / "repo"), str(clone))
    git(clone, "checkout", "-q", result.provenance.base)
    git(clone, "apply", str(folder / "model_patch.diff"))
    git(clone, "add", "-A")
    assert git(clone, "write-tree") == result.provenance.patched_tree
    assert git(clone, "write-tree") == git(clone, "rev-parse", f"{result.provenance.human}^{{tree}}")


def test_everything_needed_to_check_the_verdict_is_there(task: Task, settings: Settings) -> None:
    import hashlib

    folder, result = run(task, settings, "oracle")
    assert load_result(folder) == result
    lines = list(read_lines(folder / "measurements.jsonl"))
    pairs = [line for line in lines if line.get("label") == "verify" and "pair" in line]
    assert result.verdict.speedup is not None
    assert len(pairs) == result.verdict.speedup.pairs
    commitment = hashlib.sha256(bytes.fromhex(result.verdict.seed_secret)).hexdigest()
    assert lines[0]["seed_commitment"] == commitment == result.verdict.seed_commitment
    assert all(line["base"]["digest"] == line["candidate"]["digest"] for line in pairs)
    assert [line["kind"] for line in read_lines(folder / "journal.jsonl")][-1] == "result"
    prediction = json.loads((folder.parent.parent / "predictions.jsonl").read_text())
    assert prediction["model_patch"] == (folder / "model_patch.diff").read_text()
    assert result.environment["python"]


def test_null_is_neither_a_win_nor_a_loss(task: Task, settings: Settings) -> None:
    _, result = run(task, settings, "null")
    assert result.verdict.class_ in ("no_change", "inconclusive")
    assert result.patch is not None
    assert (result.patch.added, result.patch.removed) == (1, 0)


def test_pattern_finds_the_quadratic_loop_by_itself(task: Task, settings: Settings) -> None:
    folder, result = run(task, settings, "pattern")
    assert result.verdict.class_ == "improved"
    assert "seen_set" in (folder / "model_patch.diff").read_text()
    assert result.usage.seconds_to_first_gain is not None


def test_a_given_patch(task: Task, settings: Settings, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.diff", tmp_path / "bad.diff"
    repo = task.folder / "repo"
    good.write_text(git(repo, "diff", "HEAD~1", "HEAD") + "\n")
    bad.write_text(good.read_text().replace("not in seen", "not in SEEN"))
    assert run(task, settings, "patch", file=str(good))[1].verdict.class_ == "improved"
    result = run(task, settings, "patch", file=str(bad))[1]
    assert result.outcome.kind == "agent_error"
    assert "does not apply" in result.outcome.detail
    assert (result.verdict.class_, result.verdict.reason) == ("invalid", result.outcome.detail)
    assert result.patch is None
    bad.write_text("")
    assert run(task, settings, "patch", file=str(bad))[1].verdict.class_ == "no_patch"


class _Scripted:
    """An agent made of one function."""

    version = "1"
    summary = "a test's"

    def __init__(self, body: Callable[[Session], object]) -> None:
        self.body = body

    def solve(self, session: Session) -> Outcome:
        self.body(session)
        return Outcome("finished")


def install(monkeypatch: pytest.MonkeyPatch, body: Callable[[Session], object]) -> None:
    """Make an agent named `scripted` known, as an installed package would."""
    point = SimpleNamespace(name="scripted", value="a test", load=lambda: lambda: _Scripted(body))
    monkeypatch.setattr(discover, "_found", lambda: {point.name: point})


@pytest.fixture
def scripted(
    task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Session], object]], Result]:
    def go(body: Callable[[Session], object]) -> Result:
        install(monkeypatch, body)
        return run(task, settings, "scripted")[1]

    return go


def test_an_agent_that_does_nothing(scripted: Callable[..., Result]) -> None:
    result = scripted(lambda session: None)
    assert (result.outcome.kind, result.outcome.finish_called) == ("finished", False)
    assert result.verdict.class_ == "no_patch"


def test_an_agent_that_crashes_after_its_work_still_gets_a_verdict(scripted: Callable[..., Result]) -> None:
    def body(session: Session) -> None:
        session.tools.create("toy/order.py", FAST)
        raise RuntimeError("out of luck")

    result = scripted(body)
    assert (result.outcome.kind, result.outcome.detail) == ("agent_error", "RuntimeError: out of luck")
    assert result.verdict.class_ == "improved"


def test_an_agent_that_never_stops_runs_out_of_steps(scripted: Callable[..., Result]) -> None:
    def body(session: Session) -> None:
        while True:
            session.tools.bash("true")

    result = scripted(body)
    assert result.outcome.kind == "budget"
    assert result.usage.steps == 40


def test_a_host_that_fails_is_no_failure_of_the_agent(scripted: Callable[..., Result]) -> None:
    def body(session: Session) -> None:
        raise InfraError("disk", "The disk is full.")

    result = scripted(body)
    assert (result.outcome.kind, result.outcome.infra_kind, result.outcome.phase) == ("infra_error", "disk", "agent")
    assert result.verdict.class_ == "unverified"


def test_the_tools_of_a_session(scripted: Callable[..., Result]) -> None:
    seen: dict[str, object] = {}

    def body(session: Session) -> None:
        tools = session.tools
        seen["view"] = tools.view("toy/order.py")
        seen["hot"] = tools.profile().functions[0]
        seen["slow"] = tools.benchmark()
        tools.str_replace("toy/order.py", "    seen = []", "    seen = list()")
        seen["python"] = tools.bash("python -c 'import toy.order; print(toy.order.__file__)'").output
        seen["log"] = tools.bash("git log --format=%s; git status --porcelain").output
        seen["tests"] = tools.test()
        seen["sha"] = tools.commit("a list")
        seen["again"] = tools.commit("nothing new")
        tools.create("toy/order.py", FAST)
        seen["fast"] = tools.benchmark()
        seen["since"] = tools.benchmark(against="commit")
        tools.insert("toy/order.py", 1, "# inserted")
        tools.finish("done")

    result = scripted(body)
    assert "def distinct" in str(seen["view"])
    assert seen["hot"].function == "distinct"  # type: ignore[attr-defined]
    assert seen["hot"].file == "toy/order.py"  # type: ignore[attr-defined]
    assert seen["slow"].decision in ("no_change", "undecided")  # type: ignore[attr-defined]
    assert seen["python"] == "/workspace/toy/order.py\n"
    assert seen["log"] == "base\n M toy/order.py\n"
    assert seen["tests"].passed  # type: ignore[attr-defined]
    assert len(str(seen["sha"])) == 40
    assert seen["again"] == ""
    assert seen["fast"].decision == "faster"  # type: ignore[attr-defined]
    assert seen["since"].decision == "faster"  # type: ignore[attr-defined]
    assert result.outcome.finish_called
    assert result.verdict.class_ == "improved"


BETTER = FAST.replace("    return", "    import time\n\n    time.sleep(0.002)\n    return")


def screenings(settings: Settings) -> list[str]:
    """Which states were screened, and as what."""
    lines = read_lines(next(settings.results.rglob("journal.jsonl")))
    return [f"{line.get('of', 'asked for')}: {line['decision']}" for line in lines if line["kind"] == "screening"]


def test_a_final_state_that_was_not_screened_is_screened_before_the_best_is_chosen(
    scripted: Callable[..., Result], settings: Settings
) -> None:
    def body(session: Session) -> None:
        session.tools.create("toy/order.py", BETTER)
        session.tools.benchmark()
        session.tools.commit("better")
        session.tools.create("toy/order.py", FAST)
        session.tools.finish("much better")

    result = scripted(body)
    assert screenings(settings) == ["asked for: faster", "the final state: faster"]
    assert result.patch is not None
    assert (result.patch.source, result.verdict.class_) == ("final", "improved")
    assert result.usage.steps == 4
    assert "sleep" not in next(settings.results.rglob("model_patch.diff")).read_text()
    assert "sleep" in next(settings.results.rglob("model_patch.best.diff")).read_text()


def test_what_a_final_state_touched_is_said_though_an_earlier_one_is_confirmed(
    scripted: Callable[..., Result], settings: Settings
) -> None:
    def body(session: Session) -> None:
        session.tools.create("toy/order.py", FAST)
        session.tools.benchmark()
        session.tools.commit("fast")
        session.tools.create("tests/test_order.py", "")
        session.tools.commit("tests pass")

    result = scripted(body)
    assert result.patch is not None
    assert (result.patch.source, result.verdict.class_) == ("best", "improved")
    (finding,) = result.verdict.findings
    assert (finding.id, finding.severity) == ("protected-file", "warn")
    assert "tests/test_order.py" in finding.message
    assert finding.evidence.startswith("in the final state, which is not what was measured")
    assert screenings(settings) == ["asked for: faster"]


def test_what_the_agent_tried_is_said_beside_the_verdict(scripted: Callable[..., Result]) -> None:
    def body(session: Session) -> None:
        for command in ("git log --all", "nohup sleep 1 &", "git log --all"):
            session.tools.bash(command)

    result = scripted(body)
    assert result.verdict.class_ == "no_patch"
    assert [(finding.id, finding.severity, finding.evidence) for finding in result.verdict.findings] == [
        ("hunts-history", "warn", "git log --all"),
        ("leaves-processes", "warn", "nohup sleep 1 &"),
    ]


@pytest.mark.parametrize("committed", [True, False])
def test_a_final_state_that_cannot_be_collected_is_the_agents_doing(
    scripted: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    def body(session: Session) -> None:
        session.tools.create("toy/order.py", FAST)
        if committed:
            session.tools.benchmark()
            session.tools.commit("fast")

    def refuse(workspace: object, *, final: bool) -> None:
        raise NotCollectableError("The tree that was left cannot be collected: no.")

    monkeypatch.setattr(work, "collect", refuse)
    result = scripted(body)
    assert (result.outcome.kind, result.patch is None) == ("finished", not committed)
    if committed:
        assert result.verdict.class_ == "improved"
        assert [(finding.id, finding.severity) for finding in result.verdict.findings] == [("not-collected", "warn")]
    else:
        assert result.verdict.class_ == "invalid"
        assert result.verdict.reason == "The tree that was left cannot be collected: no."


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", ".git/config", "link/x", "toy/../../x", "", "git"])
def test_no_tool_leaves_the_workspace(scripted: Callable[..., Result], path: str) -> None:
    from omniperf.agents.protocol import ToolError

    def body(session: Session) -> None:
        session.tools.bash("ln -s /etc link; ln -s .git git")
        for use in (lambda: session.tools.view(path), lambda: session.tools.create(path, "x")):
            with pytest.raises(ToolError):
                use()
        session.tools.bash("rm link git")

    assert scripted(body).outcome.kind == "finished"


def test_a_file_or_command_that_cannot_be_is_an_answer_and_loses_nothing(scripted: Callable[..., Result]) -> None:
    from omniperf.agents.protocol import ToolError

    refused: list[str] = []

    def body(session: Session) -> None:
        tools = session.tools
        tools.bash("mkfifo toy/pipe")
        before = tools.view("toy/order.py")
        for use in (
            lambda: tools.create("toy/pipe", "x"),
            lambda: tools.create("toy", "x"),
            lambda: tools.create("a" * 300, "x"),
            lambda: tools.create("toy/order.py/x", "x"),
            lambda: tools.create("toy/order.py", "x\ud800"),
            lambda: tools.view("toy/nul\0"),
            lambda: tools.view("a" * 300),
            lambda: tools.bash("echo \0"),
            lambda: tools.bash("echo \ud800"),
        ):
            with pytest.raises(ToolError) as error:
                use()
            refused.append(str(error.value))
        assert tools.view("toy/order.py") == before

    result = scripted(body)
    assert (result.outcome.kind, result.outcome.detail) == ("finished", "")
    assert len(refused) == 9


def test_the_worktree_is_gone_and_the_seal_forgot_it(task: Task, settings: Settings) -> None:
    run(task, settings, "null")
    assert not settings.worktrees.exists()


def test_an_oracle_without_a_human_patch_is_refused_before_anything_is_written(task: Task, settings: Settings) -> None:
    assert task.repo is not None
    alone = task.model_copy(update={"repo": task.repo.model_copy(update={"human": None})})
    with pytest.raises(UsageError, match="no human patch"):
        run(alone, settings, "oracle")
    assert not settings.results.exists()


def test_an_interrupt_leaves_no_worktree_behind(
    task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(session: Session) -> None:
        raise KeyboardInterrupt

    install(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(task, settings, "scripted")
    assert not settings.worktrees.exists()
    assert "cancelled" in next(settings.results.rglob("journal.jsonl")).read_text()


def test_an_interrupted_attempt_is_in_the_summary_and_its_patch_in_the_predictions(
    task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_in_the_verdict(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    install(monkeypatch, lambda session: session.tools.create("toy/order.py", FAST))
    monkeypatch.setattr(attempt, "verify_patch", interrupted_in_the_verdict)
    with pytest.raises(KeyboardInterrupt):
        run(task, settings, "scripted")
    folder = next(settings.results.iterdir())
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["run_id"] == folder.name
    assert [(row["n"], row["outcome"]) for row in summary["attempts"]] == [(1, "cancelled")]
    predictions = list(read_lines(folder / "predictions.jsonl"))
    assert [(row["instance_id"], "dict.fromkeys" in row["model_patch"]) for row in predictions] == [("toy", True)]


def test_a_workspace_that_cannot_be_made_ends_one_attempt_and_not_those_after_it(
    task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, lambda session: None)
    make, full = worktree.provide, [False, True]

    def provide(*args: object, **options: object) -> object:
        if options.get("agent") and full.pop():
            raise InfraError("disk", "The disk is full.")
        return make(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "provide", provide)
    folder, results = run_task(task, AttemptSpec(run_id="", agent="scripted", n=0), 2, settings, ignore)
    first, second = (result.outcome for result in results)
    assert (first.kind, first.infra_kind, first.phase) == ("infra_error", "disk", "workspace")
    assert second.kind == "finished"
    assert load_result(folder / task.id / "scripted.1") == results[0]
    assert results[0].patch is None


def test_the_same_failure_of_the_host_three_times_in_a_row_ends_the_run(
    task: Task, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, lambda session: None)
    make, ports, said = worktree.provide, iter(range(9)), []

    def provide(*args: object, **options: object) -> object:
        if options.get("agent"):
            if (port := next(ports)) == 1:
                return make(*args, **options)  # type: ignore[arg-type]
            raise InfraError("network", f"Port {port} refused the connection.")
        return make(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bench, "provide", provide)
    spec = AttemptSpec(run_id="", agent="scripted", n=0)
    _, results = run_task(task, spec, 9, settings, lambda event: said.append(event.message))
    assert [result.outcome.kind for result in results] == ["infra_error", "finished", *["infra_error"] * 3]
    assert said[-1] == (
        "the run ends after 5 of 9 attempts: 3 attempts in a row failed alike: Port 4 refused the connection."
    )


def test_the_quickstart_needs_no_sandbox(settings: Settings, tmp_path: Path) -> None:
    """The one task that may run without walls, so that it runs everywhere; the result says so."""
    import sys

    command = (
        sys.executable,
        "-m",
        "omniperf",
        "run",
        "quickstart",
        "--agent",
        "oracle",
        "--sandbox",
        "none",
        "--json",
    )
    folders = {"OMNIPERF_CACHE": str(settings.cache), "HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=folders, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    made = said["attempts"][0]
    assert made["sandbox"] == "none"
    assert made["verdict"]["class"] == "improved"
    prompt = (tmp_path / "results" / said["run_id"] / "quickstart" / "oracle.1" / "prompt.md").read_text()
    assert "git checkout at `.`." in prompt  # there is no /workspace without a sandbox


def test_what_a_build_makes_is_measured_and_is_no_part_of_the_patch(
    make_task: Callable[..., Task], settings: Settings, monkeypatch: pytest.MonkeyPatch, bubblewrap: None
) -> None:
    task = make_task(workload=WORKLOAD.replace(".order", ".made"))
    build = 'environment: {build: ["cp toy/order.py toy/made.py"], '
    text = (task.folder / "task.yaml").read_text().replace("environment: {", build)
    targets = 'targets: ["toy/order.py", "toy/made.py"]'
    (task.folder / "task.yaml").write_text(text.replace('targets: ["toy/*.py"]', targets))
    seen: dict[str, object] = {}

    def body(session: Session) -> None:
        tools = session.tools
        tools.create("toy/order.py", FAST)
        seen["tests"] = tools.test().passed
        seen["profile"] = tools.profile().functions
        seen["screening"] = tools.benchmark().decision
        tools.commit("a dict")

    install(monkeypatch, body)
    folder, result = run(load_task(str(task.folder), settings), settings, "scripted")
    assert seen["tests"] is True
    assert seen["screening"] == "faster"
    assert result.verdict.class_ == "improved", result.verdict
    assert "made.py" not in (folder / "model_patch.diff").read_text()
