"""A launch that says nothing of warps and stages takes Triton's defaults, which suit few kernels.

Twice and half the default of 4 warps, one stage more and fewer than the default of 3: each is tried by itself, and
`triton_launch` goes on from there. Only for kernels of the module that nothing tunes: an autotuner says so itself.
Tested by its text: kernels need a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.kernels import launches, only_compiled
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 37
ALTERNATIVES = True
EXAMPLE_BEFORE = """\
import triton


@triton.jit
def _scale(x, BLOCK: tl.constexpr):
    pass


def scale(x, n):
    _scale[(n,)](x, BLOCK=1024)
"""
EXAMPLE_AFTER = """\
import triton


@triton.jit
def _scale(x, BLOCK: tl.constexpr):
    pass


def scale(x, n):
    _scale[(n,)](x, BLOCK=1024, num_warps=8)
"""
EXAMPLE_CALLS = ()

_TRIED = {"num_warps": (8, 2), "num_stages": (4, 2)}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each launch and number that it leaves out."""
    if source.local_name("triton") is None:
        return
    untuned = only_compiled(source)
    for kernel, call in launches(function):
        if kernel not in untuned or any(argument.star == "**" for argument in call.args):
            continue
        given = {argument.keyword.value for argument in call.args if argument.keyword}
        for name, numbers in _TRIED.items():
            for number in numbers if name not in given else ():
                added = cst.ensure_type(cst.parse_expression(f"f({name}={number})"), cst.Call).args[0]
                new = call.with_changes(args=[*call.args, added])
                yield Rewrite(f"{name} {number} for {kernel}", replaced(function, call, new))
