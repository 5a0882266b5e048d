"""`a + b * c` on tensors is two kernels with a product in memory between them; `addcmul`, or `alpha=`, does it in one.

All are tensors, or `b` or `c` is a number that is written out. On some devices the fused form rounds once less, so
outputs may differ in the last bits; whole numbers with a fractional `alpha` are an error, and the try is undone.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.tensors import is_tensor, tensors, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 29
EXAMPLE_BEFORE = """\
import torch


def stepped(x: torch.Tensor, gain: torch.Tensor, slope: torch.Tensor):
    moved = x - 0.5 * slope
    return moved + gain * slope
"""
EXAMPLE_AFTER = """\
import torch


def stepped(x: torch.Tensor, gain: torch.Tensor, slope: torch.Tensor):
    moved = torch.sub(x, slope, alpha=0.5)
    return torch.addcmul(moved, gain, slope)
"""
EXAMPLE_CALLS = ("stepped(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5]), torch.tensor([-2.0, 4.0])).tolist()",)

_SUMS = m.BinaryOperation(operator=m.Add() | m.Subtract(), right=m.BinaryOperation(operator=m.Multiply()))


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each such sum."""
    torch, known = source.local_name("torch"), tensors(twin_of(function), source)
    if torch is None or not known:
        return
    for found in m.findall(function.body, _SUMS):
        total = cst.ensure_type(found, cst.BinaryOperation)
        product = cst.ensure_type(total.right, cst.BinaryOperation)
        if not is_tensor(expression(total.left), known, source):
            continue
        a, sides, less = code(total.left), (product.left, product.right), isinstance(total.operator, cst.Subtract)
        numbers = [side for side in sides if _number(side)]
        given = [side for side in sides if is_tensor(expression(side), known, source)]
        if len(given) == 2:
            text = f"{torch}.addcmul({a}, {code(given[0])}, {code(given[1])}{', value=-1' if less else ''})"
        elif len(given) == 1 and numbers:
            text = f"{torch}.{'sub' if less else 'add'}({a}, {code(given[0])}, alpha={code(numbers[0])})"
        else:
            continue
        yield Rewrite(f"`{text}`", replaced(function, total, cst.parse_expression(text)))


def _number(side: cst.BaseExpression) -> bool:
    return isinstance(expression(side), ast.Constant) and isinstance(side, cst.Integer | cst.Float)
