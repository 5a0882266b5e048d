"""`torch.zeros` and numpy's write memory that is then written again; `empty` leaves it as it is.

Only where the next thing that is done with the array writes every element and reads none: `x[:] = ...`, `x.copy_(...)`,
`x.fill_(...)`, or `out=x` of an operation that writes all of it. So it is with `ones`. Nothing in between may mention
the array, and no handler around it could see it half-written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniperf.agents.arms.pattern.memory import allocations, next_use, unfilled, writes_all
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, code, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from omniperf.agents.arms.pattern.source import Source

RANK = 32
EXAMPLE_BEFORE = """\
import numpy as np


def scaled(values, factor):
    given = np.zeros(len(values))
    given[:] = values
    product = np.zeros_like(given)
    np.multiply(given, factor, out=product)
    return product.tolist()
"""
EXAMPLE_AFTER = """\
import numpy as np


def scaled(values, factor):
    given = np.empty(len(values))
    given[:] = values
    product = np.empty_like(given)
    np.multiply(given, factor, out=product)
    return product.tolist()
"""
EXAMPLE_CALLS = ("scaled([1, 2, 3], 2)", "scaled([], 1)")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each array that is filled and then overwritten."""
    for block in blocks(function):
        for made in allocations(function, block, source):
            following = next_use(block, made.index, made.name)
            if made.filled is None or following is None:
                continue
            if not writes_all(block.node.body[following], made.name, source):
                continue
            if new := unfilled(made.call, source):
                description = f"`{made.name} = {code(new)}`, overwritten whole"
                yield Rewrite(description, replaced(function, made.call, new))
