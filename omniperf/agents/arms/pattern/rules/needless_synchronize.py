"""To wait for the device, or to give its memory back, keeps it idle; whoever reads a result waits for it anyway.

`torch.cuda.synchronize()` and `torch.cuda.empty_cache()` are left out, unless the function deals with what waiting is
for: other streams, events, clocks, copies that do not block, or graphs. An error on the device shows up later.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, code, expression, with_body
from omniperf.agents.arms.pattern.tensors import of_torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 21
EXAMPLE_BEFORE = """\
import torch


def halved(rows):
    out = []
    for row in rows:
        out.append(row / 2)
        if row.is_cuda:
            torch.cuda.synchronize()
    return torch.stack(out)
"""
EXAMPLE_AFTER = """\
import torch


def halved(rows):
    out = []
    for row in rows:
        out.append(row / 2)
        if row.is_cuda:
            pass
    return torch.stack(out)
"""
EXAMPLE_CALLS = ("halved(torch.ones(2, 2)).tolist()",)

_WAITING = {"cuda.synchronize", "cuda.empty_cache"}
_REASONS = re.compile(
    r"\w*(stream|event|clock|time|non_blocking|pin_|pinned|graph|memory_(alloc|reserv|stat))\w*", re.I
)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each statement that waits."""
    if _REASONS.search(code(function)):
        return
    for block in blocks(function):
        for index, statement in enumerate(block.node.body):
            match statement:
                case cst.SimpleStatementLine(body=[cst.Expr(cst.Call(func=called))]):
                    if of_torch(expression(called), source) in _WAITING:
                        rest = [*block.node.body[:index], *block.node.body[index + 1 :]]
                        body = rest or [statement.with_changes(body=[cst.Pass()])]
                        yield Rewrite(f"without `{code(statement).strip()}`", with_body(function, block, body))
