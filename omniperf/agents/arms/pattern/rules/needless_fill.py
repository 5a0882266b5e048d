"""Filling an array with what it already holds, or with what the next statement overwrites, writes its memory twice.

The array is made in this block, by torch or numpy. A fill goes where nothing was done with the array since it was made
with the same constant, or where the next thing done with it writes every element and reads none. Its elements must be
numbers by their dtype: 0.0 in an array of objects is not the 0 that was there, and a text takes "0" for "".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.agents.arms.pattern.memory import Allocation, allocations, fills, next_use, writes_all
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import Block, blocks, code, with_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from omniperf.agents.arms.pattern.source import Source

RANK = 33
EXAMPLE_BEFORE = """\
import numpy


def counted(values):
    bins = numpy.zeros(4, dtype=int)
    bins.fill(0)
    for value in values:
        bins[value] += 1
    shares = numpy.empty(4)
    shares[:] = 0
    numpy.divide(bins, max(1, len(values)), out=shares)
    return shares.tolist()
"""
EXAMPLE_AFTER = """\
import numpy


def counted(values):
    bins = numpy.zeros(4, dtype=int)
    for value in values:
        bins[value] += 1
    shares = numpy.empty(4)
    numpy.divide(bins, max(1, len(values)), out=shares)
    return shares.tolist()
"""
EXAMPLE_CALLS = ("counted([0, 1, 1, 3])", "counted([])")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each fill that changes nothing that is ever read."""
    for block in blocks(function):
        for made in allocations(function, block, source):
            if made.numeric and (at := _needless(block, made, source)) is not None:
                statement = block.node.body[at]
                body = [*block.node.body[:at], *block.node.body[at + 1 :]]
                yield Rewrite(f"without `{code(statement).strip()}`", with_body(function, block, body))


def _needless(block: Block, made: Allocation, source: Source) -> int | None:
    """Return the index of the fill that can go."""
    at = next_use(block, made.index, made.name)
    if at is None or (constant := fills(block.node.body[at], made.name)) is None:
        return None
    if constant == made.filled:
        return at
    following = next_use(block, at, made.name)
    if following is not None and writes_all(block.node.body[following], made.name, source):
        return at
    return None
