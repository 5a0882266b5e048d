"""How a client's run is judged: what it printed is kept whole, and what it says of itself blames nobody."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from omniperf.agents.external import runner
from omniperf.agents.external.mini_swe_agent import MiniReader
from omniperf.errors import InfraError
from omniperf.gateway.budget import Budget, BudgetExhaustedError
from omniperf.gateway.process import Spent
from omniperf.gateway.tokens import Tokens
from omniperf.tasks.schema import Limits

FAILURE = InfraError("throttled", "slow down", "wait")


def spent(exchanges: int, failure: InfraError | None) -> Spent:
    return Spent(Tokens(), 0.0, (), exchanges, 0, 0.0, "", failure)


class Account:
    """What the gateway says, as each test wants it."""

    def __init__(self) -> None:
        self.now = spent(0, None)

    def spent(self) -> Spent:
        return self.now


@pytest.fixture
def parts() -> tuple[Any, Any, Account]:
    task = SimpleNamespace(limits=Limits(minutes=1))
    session = SimpleNamespace(budget=Budget(task.limits), models=[], task=task)
    return session, SimpleNamespace(error=None, busy=False, completed=None), Account()


def test_all_that_came_is_kept_before_a_line_ends_the_attempt() -> None:
    kept: list[bytes] = []

    def read(line: bytes) -> None:
        raise BudgetExhaustedError("steps", 1)

    lines = runner._Lines(kept.append, read)
    with pytest.raises(BudgetExhaustedError):
        lines.add(b"a\nb\nc\nd")
    lines.add(b"e\nf", read=False)
    lines.end(read=False)
    assert kept == [b"a", b"b", b"c", b"de", b"f"]


def test_an_endless_line_is_passed_over_up_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_LINE", 10)
    kept: list[bytes] = []
    lines = runner._Lines(kept.append, lambda _: None)
    for data in (b"one\n", b"x" * 8, b"x" * 8, b"rest\ntwo\n", b"y" * 11 + b"\nthree", b"!\n"):
        lines.add(data)
    lines.end(read=True)
    assert kept == [b"one", b"two", b"three!"]


def test_a_failure_ends_an_attempt_by_further_calls_alone(
    parts: tuple[Any, Any, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    session, channel, account = parts
    run = runner.Run(session, channel, account, MiniReader())  # type: ignore[arg-type]
    monkeypatch.setattr(runner, "_PATIENCE", 0.01)
    account.now = spent(1, FAILURE)
    run._look()
    time.sleep(0.02)
    run._look()  # it works on, and calls nobody
    channel.busy = True
    account.now = spent(2, FAILURE)
    run._look()
    channel.busy = False
    run._look()
    account.now = spent(3, FAILURE)
    with pytest.raises(InfraError, match="slow down"):
        run._look()


def test_time_ends_a_client_unless_a_tool_began_before(parts: tuple[Any, Any, Account]) -> None:
    session, channel, account = parts
    run = runner.Run(session, channel, account, MiniReader())  # type: ignore[arg-type]
    session.budget.started -= 61
    channel.busy = True
    run._look()
    channel.busy = False
    with pytest.raises(BudgetExhaustedError, match="minutes"):
        run._look()


def test_a_client_that_blames_its_provider_alone_has_failed_itself(parts: tuple[Any, Any, Account]) -> None:
    reader = MiniReader()
    said = "AuthenticationError: 401 invalid key"
    list(reader.document({"messages": [], "info": {"exit_status": "Crash", "exception_str": said}}))
    assert reader.report.failure == "auth"
    run = runner.Run(*parts, reader)  # type: ignore[arg-type]
    outcome = run._outcome(0, spent(1, None), reader.report, "")
    assert outcome.kind == "agent_error"
    with pytest.raises(InfraError, match="slow down"):
        run._outcome(0, spent(1, FAILURE), reader.report, "")
