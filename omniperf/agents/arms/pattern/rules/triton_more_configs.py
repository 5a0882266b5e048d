"""An autotuner finds the best of what it is offered; where that list ends, one more on either side is offered.

Lists of warps, stages and block sizes that a comprehension in `triton.autotune` goes through are extended by half the
smallest and twice the largest (stages: by one). Tuning takes longer, once; it is no part of a measured run. Tested by
its text: kernels need a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.kernels import BLOCK, LEAST_BLOCK, MOST_BLOCK, MOST_WARPS
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 38
ALTERNATIVES = True
ON_KERNELS = True
EXAMPLE_BEFORE = """\
import triton


@triton.autotune([triton.Config({}, num_warps=num_warps) for num_warps in [4, 8]], key=["n"])
@triton.jit
def scale(x, n):
    pass
"""
EXAMPLE_AFTER = """\
import triton


@triton.autotune([triton.Config({}, num_warps=num_warps) for num_warps in [2, 4, 8, 16]], key=["n"])
@triton.jit
def scale(x, n):
    pass
"""
EXAMPLE_CALLS = ()

_LIST = m.List(elements=[m.AtLeastN(n=1, matcher=m.Element(m.Integer()))])
_OFFERED = m.CompFor(target=m.Name(), iter=_LIST)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each list of numbers."""
    if source.local_name("triton") is None:
        return
    for decorator in function.decorators:
        if not code(decorator.decorator).startswith(("triton.autotune(", "autotune(")):
            continue
        for found in m.findall(decorator, _OFFERED):
            loop = cst.ensure_type(found, cst.CompFor)
            name, listed = code(loop.target), cst.ensure_type(loop.iter, cst.List)
            given = [int(code(element.value), 0) for element in listed.elements]
            wider = sorted({*given, *_beyond(name, given)})
            if wider != sorted(given):
                new = cst.parse_expression(f"{wider}")
                yield Rewrite(f"{name} from {wider}", replaced(function, listed, new))


def _beyond(name: str, given: list[int]) -> list[int]:
    """Return what lies just beyond the least and the greatest number."""
    least, most = min(given), max(given)
    if name == "num_stages":
        return [number for number in (least - 1, most + 1) if 1 <= number <= 8]
    if least < 1 or any(number & (number - 1) for number in given):
        return []
    if name == "num_warps":
        return [number for number in (least // 2, 2 * most) if 1 <= number <= MOST_WARPS]
    if BLOCK.fullmatch(name):
        return [number for number in (least // 2, 2 * most) if LEAST_BLOCK <= number <= MOST_BLOCK]
    return []
