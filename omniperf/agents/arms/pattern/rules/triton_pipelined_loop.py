"""A kernel's loop over blocks can load the next block while it works on this one: `tl.range(..., num_stages=3)`.

The compiler keeps what the loop means. Only for loops that load and whose number of turns is not written out (those are
unrolled); an older Triton has no `tl.range`, and the try is undone. Tested by its text: kernels need a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.kernels import compiled
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 38
ALTERNATIVES = True
ON_KERNELS = True
EXAMPLE_BEFORE = """\
import triton
import triton.language as tl


@triton.jit
def total(x, out, n, BLOCK: tl.constexpr):
    part = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, n, BLOCK):
        part += tl.load(x + start + tl.arange(0, BLOCK))
    tl.store(out, tl.sum(part))
"""
EXAMPLE_AFTER = """\
import triton
import triton.language as tl


@triton.jit
def total(x, out, n, BLOCK: tl.constexpr):
    part = tl.zeros((BLOCK,), tl.float32)
    for start in tl.range(0, n, BLOCK, num_stages=3):
        part += tl.load(x + start + tl.arange(0, BLOCK))
    tl.store(out, tl.sum(part))
"""
EXAMPLE_CALLS = ()

_STAGES = (3, 2, 4)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop and number of stages."""
    language = source.local_name("triton.language")
    if language is None or not compiled(function) or not source.builtin("range"):
        return
    loads = m.Call(func=m.Attribute(m.Name(language), m.Name("load")))
    for found in m.findall(function.body, m.For(iter=m.Call(func=m.Name("range")))):
        loop = cst.ensure_type(found, cst.For)
        call = cst.ensure_type(loop.iter, cst.Call)
        if all(isinstance(argument.value, cst.Integer) for argument in call.args) or not m.findall(loop.body, loads):
            continue
        for stages in _STAGES:
            written = cst.ensure_type(cst.parse_expression(f"{language}.range(num_stages={stages})"), cst.Call)
            new = call.with_changes(func=written.func, args=[*call.args, *written.args])
            yield Rewrite(f"{stages} stages for the loop over `{language}.range`", replaced(function, call, new))
