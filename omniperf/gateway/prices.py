"""What models cost: a dated file that travels with the package, and a file of the user's own.

A model that neither names has no price. Nothing is guessed: not from a similar name, and not beyond the longest request
whose price is known.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from omniperf.errors import UsageError
from omniperf.tasks.schema import Model

if TYPE_CHECKING:
    from omniperf.gateway.tokens import Tokens

SHIPPED = Path(__file__).with_name("prices-2026-11.json")
_DATE = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


class Tier(Model):
    """USD per million tokens, for a request whose input is at most `up_to` tokens (None: however long).

    Where a cache's price is not given, its tokens cost what other input does.
    """

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_read: float | None = Field(None, ge=0)
    cache_write: float | None = Field(None, ge=0)
    up_to: int | None = Field(None, gt=0)


class Price(Model):
    """What one model costs: tiers in rising order, the last one for the longest requests that have a known price."""

    tiers: tuple[Tier, ...] = Field(min_length=1)
    source: str = ""
    window: int | None = Field(None, gt=0, description="tokens that the model takes, its reply included")

    def cost(self, tokens: Tokens) -> float | None:
        """USD for one call; None for a request longer than any whose price is known."""
        tier = self._tier(tokens.sent)
        if tier is None:
            return None
        read = tier.input if tier.cache_read is None else tier.cache_read
        write = tier.input if tier.cache_write is None else tier.cache_write
        shares = (
            (tokens.input, tier.input), (tokens.cache_read, read), (tokens.cache_write, write),
            (tokens.output, tier.output),
        )  # fmt: skip
        return sum(count * rate for count, rate in shares) / 1e6

    def most(self, sent: int, output: int) -> float | None:
        """USD that a call of this size can cost at most: nothing read from a cache, everything written to one.

        None for a request longer than any whose price is known: by the last tier it could cost more than is said.
        """
        tier = self._tier(sent)
        if tier is None:
            return None
        return (sent * max(tier.input, tier.cache_write or 0) + output * tier.output) / 1e6

    @property
    def longest(self) -> int | None:
        """The input of the longest request whose price is known, in tokens; None where every price is."""
        return self.tiers[-1].up_to

    def _tier(self, sent: int) -> Tier | None:
        return next((tier for tier in self.tiers if tier.up_to is None or sent <= tier.up_to), None)


class PriceFile(Model):
    """A file of prices."""

    schema_: Literal["omniperf/prices/v1"] = Field(alias="schema")
    as_of: str = Field(description="the day on which these prices were in force")
    unit: str = ""
    sources: dict[str, str] = Field(default_factory=dict)
    models: dict[str, Price]

    def of(self, *names: str) -> Price | None:
        """The price of the first of these models that has one; a date at the end of a name does not matter."""
        found = (self.models.get(name) or self.models.get(_DATE.sub("", name)) for name in names)
        return next((price for price in found if price), None)


def load_prices(own: str = "") -> PriceFile:
    """The shipped prices, and over them those of the user's file. Raises UsageError."""
    shipped = PriceFile.model_validate_json(SHIPPED.read_bytes())
    if not own:
        return shipped
    try:
        mine = PriceFile.model_validate_json(Path(own).read_bytes())
    except OSError as error:
        raise UsageError(f"The prices {own} cannot be read: {error.strerror}.", "Give an existing file.") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        example = json.dumps({"tiers": [{"input": 2, "output": 10, "cache_read": 0.1}]})
        raise UsageError(
            f"{own} is no omniperf/prices/v1: {where}: {first['msg']}.", f"A model's price is written {example}."
        ) from None
    return mine.model_copy(update={"models": {**shipped.models, **mine.models}})
