"""What may still be spent, what a call costs, and which state of the tree is kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from omniperf.agents.protocol import Screening
from omniperf.agents.ratchet import Ratchet
from omniperf.errors import UsageError
from omniperf.gateway.budget import Budget, BudgetExhaustedError
from omniperf.gateway.prices import SHIPPED, Price, Tier, load_prices
from omniperf.gateway.process import Gateway
from omniperf.gateway.tokens import Tokens
from omniperf.results.schema import PatchFile
from omniperf.tasks.schema import Limits
from omniperf.workspace.patch import Patch
from tests.agents.loopback import Fail
from tests.agents.test_model_agent import FINISH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agents.conftest import Attempt

PRICE = Price(tiers=(Tier(up_to=1000, input=2, output=10, cache_read=0.2, cache_write=2.5), Tier(input=4, output=15)))


def test_a_call_costs_what_its_own_length_says() -> None:
    assert PRICE.cost(Tokens(100, 800, 100, 50)) == pytest.approx((200 + 160 + 250 + 500) / 1e6)
    assert PRICE.cost(Tokens(101, 800, 100, 50)) == pytest.approx((4 * 1001 + 15 * 50) / 1e6)
    short = Price(tiers=(Tier(up_to=1000, input=2, output=10),))
    assert short.cost(Tokens(1001)) is None
    assert short.most(1001, 10) is None


def test_the_most_that_a_call_can_cost_is_never_less_than_what_it_does() -> None:
    for tokens in (Tokens(500, 300, 200, 90), Tokens(0, 0, 1000, 90), Tokens(5000, 0, 0, 1), Tokens(0, 900, 0, 0)):
        most, cost = PRICE.most(tokens.sent, tokens.output), PRICE.cost(tokens)
        assert most is not None
        assert cost is not None
        assert most >= cost


def test_the_shipped_prices_name_their_source_and_their_day() -> None:
    prices = load_prices()
    assert prices.as_of.startswith("2026-11")
    for name, price in prices.models.items():
        assert prices.sources[price.source], name
        assert [tier.up_to is None for tier in price.tiers[:-1]] == [False] * (len(price.tiers) - 1)
        assert all(tier.output > tier.input > (tier.cache_read or 0) for tier in price.tiers)
    assert "claude-opus-5-5" in SHIPPED.read_text()


def test_a_date_in_a_models_name_does_not_matter_and_a_similar_name_does() -> None:
    prices = load_prices()
    assert prices.of("claude-opus-4-5-20251101") == prices.of("claude-opus-4-5") is not None
    assert prices.of("gpt-5.5-2026-04-23") == prices.of("gpt-5.5") is not None
    assert prices.of("gpt-5.5-pro") is None
    assert prices.of("no-such-model", "gpt-5.5") == prices.of("gpt-5.5")
    assert prices.of("", "no-such-model") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ("{}", "schema: Field required"),
        ('{"schema": "omniperf/prices/v1", "as_of": "x", "models": {"m": {"tiers": []}}}', "models.m.tiers"),
        (
            '{"schema": "omniperf/prices/v1", "as_of": "x", "models": {"m": {"tiers": [{"input": -1, "output": 1}]}}}',
            "m",
        ),
    ],
)
def test_a_file_of_prices_that_is_none(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_prices(str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        load_prices(str(tmp_path / "missing.json"))


def test_a_call_must_fit_before_it_is_made() -> None:
    budget = Budget(Limits(tokens=1000, usd=0.004))
    budget.reserve(400, 100, PRICE)
    budget.charge(Tokens(400, 0, 0, 100), PRICE)
    assert budget.usd == pytest.approx(0.0018)
    with pytest.raises(BudgetExhaustedError, match=r"1,000 tokens could be passed by the next call \(500 used\)"):
        budget.reserve(401, 100, PRICE)
    with pytest.raises(BudgetExhaustedError, match=r"0\.004 USD"):
        budget.reserve(100, 300, PRICE)
    budget.reserve(100, 300, None)
    budget.charge(Tokens(1), None)
    assert budget.usd is None
    budget.reserve(100, 300, PRICE)  # what is not known cannot be capped; tokens are


def test_a_call_that_is_longer_than_any_whose_price_is_known_is_not_made() -> None:
    short = Price(tiers=(Tier(up_to=1000, input=2, output=10),))
    budget = Budget(Limits())
    budget.reserve(1000, 10, short)
    with pytest.raises(BudgetExhaustedError, match="5 USD could be passed by the next call, whose price at 1,001 tok"):
        budget.reserve(1001, 10, short)
    budget.charge(Tokens(1001), short)  # it was estimated to be shorter
    assert budget.usd is None
    with pytest.raises(BudgetExhaustedError, match="price at 1,002 tokens is not known"):
        budget.reserve(1002, 10, short)


def test_a_call_of_a_built_in_agent_holds_of_a_sweep_what_it_can_cost_until_it_is_paid(attempt: Attempt) -> None:
    held, steps = [], iter([Fail(529, "overloaded_error"), FINISH])

    def answer(_: object) -> Any:
        with gateway.shared.table() as table:
            held.append(sum(table["held"].values()))
        return next(steps)

    with Gateway() as gateway:
        gateway.shared.allow(1.0)
        ended = attempt(answer, "anthropic", gateway=gateway)
        assert (ended.outcome.kind, held) == ("finished", [held[0]] * 2)
        with gateway.shared.table() as table:
            left, more = table["usd"], table["held"]
        assert (left, more) == (pytest.approx(1.0 - (ended.usage.usd or 0.0)), {})
        assert gateway.shared.hold(left, fits=True)  # another call holds all
        ended = attempt([FINISH], "anthropic", gateway=gateway, name="attempt.2")
    assert 0 < held[0] < left
    assert (ended.outcome.kind, "the sweep's USD are spent" in ended.outcome.detail) == ("budget", True)


def patch(tree: str) -> Patch:
    return Patch(tree.encode(), tree, (PatchFile(path="a.py", status="modified"),))


def screened(speedup: float, decision: str = "faster", *, equal: bool = True) -> Screening:
    return Screening(decision, speedup, speedup * 0.9, speedup * 1.1, 4, equal)  # type: ignore[arg-type]


STATES = {
    "x2": screened(2), "x3": screened(3), "x2.9": screened(2.9), "same": screened(1, "no_change"),
    "wrong": screened(9, equal=False), "broken": screened(0, "failed"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("committed", "final", "kept"),
    [
        ("x2 x3", "x3", "x3"),
        ("x2 x3", "x2", "x3"),
        ("x2 x3", "cannot be screened", "x3"),
        ("x2 x3", "broken", "x3"),
        ("x2 x3", "same", "x3"),
        ("x2 x3", "x2.9", "x2.9"),  # no worse than noise
        ("x2", "x3", "x3"),
        ("wrong same", "cannot be screened", "cannot be screened"),
        ("", "same", "same"),
        ("x2 fails-tests", "same", "x2"),
    ],
)
def test_the_best_is_confirmed_only_where_the_final_state_is_worse(committed: str, final: str, kept: str) -> None:
    ratchet = Ratchet()
    for tree, screening in STATES.items():
        ratchet.saw(patch(tree), screening)
    ratchet.saw(patch("fails-tests"), screened(5))
    ratchet.tested(patch("fails-tests"), passed=False)
    best = ratchet.best(committed.split())
    chosen = best if best is not None and ratchet.prefers(best, patch(final)) else patch(final)
    assert chosen.tree == kept


def test_a_price_is_written_as_the_error_says(tmp_path: Path) -> None:
    file = tmp_path / "prices.json"
    file.write_text("[]")
    with pytest.raises(UsageError) as caught:
        load_prices(str(file))
    example = json.loads(caught.value.remedy.partition("written ")[2].rstrip("."))
    assert Price.model_validate(example).tiers[0].output == 10
