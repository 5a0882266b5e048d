"""Tokens, and what they are taken for where nobody has counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

BYTES_PER_TOKEN = 3  # where no server has counted; an estimate on the safe side for code, JSON and English


@dataclass(frozen=True)
class Tokens:
    """Tokens of one or more calls. The three kinds of input are disjoint; reasoning is part of the output."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0

    @property
    def sent(self) -> int:
        """All input."""
        return self.input + self.cache_read + self.cache_write

    @property
    def total(self) -> int:
        """Input and output."""
        return self.sent + self.output

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.output + other.output,
        )


def at_least(said: Tokens | None, streamed: Iterable[str]) -> Tokens:
    """What a reply had cost when it broke off: as far as the server said, and no less than what had streamed."""
    said = said or Tokens()
    size = sum(len(text.encode("utf-8", "replace")) for text in streamed)
    return replace(said, output=max(said.output, size // BYTES_PER_TOKEN))


def openai_usage(usage: Mapping[str, Any], sent: str, output: str) -> Tokens:
    """Usage as OpenAI counts it, where all input holds what was read from and written to the cache."""
    details: Mapping[str, Any] = usage.get(f"{sent}_details") or {}
    counted = (usage.get(sent), details.get("cached_tokens"), details.get("cache_write_tokens"), usage.get(output))
    whole, read, written, out = (count if isinstance(count, int) else 0 for count in counted)
    return Tokens(max(0, whole - read - written), read, written, out)
