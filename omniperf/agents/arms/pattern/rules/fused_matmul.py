"""A product of matrices and a sum are two kernels, and the product goes through memory; `addmm` does both in one.

`torch.mm(a, b) + c` and `torch.bmm(a, b) + c`, where `c` is a tensor, either way round. The sum is rounded once less;
outputs may differ in the last bits; a `c` of a larger shape is an error, and the try is undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.tensors import is_tensor, of_torch, tensors, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 28
EXAMPLE_BEFORE = """\
import torch


def layer(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
    return torch.relu(torch.mm(x, weight) + bias)
"""
EXAMPLE_AFTER = """\
import torch


def layer(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor):
    return torch.relu(torch.addmm(bias, x, weight))
"""
EXAMPLE_CALLS = ("layer(torch.ones(2, 3), torch.full((3, 2), 2.0), torch.tensor([1.0, -9.0])).tolist()",)

_FUSED = {"mm": "addmm", "bmm": "baddbmm"}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each such sum."""
    torch, known = source.local_name("torch"), tensors(twin_of(function), source)
    if torch is None:
        return
    for found in m.findall(function.body, m.BinaryOperation(operator=m.Add())):
        total = cst.ensure_type(found, cst.BinaryOperation)
        for product, other in ((total.left, total.right), (total.right, total.left)):
            if not isinstance(product, cst.Call) or not is_tensor(expression(other), known, source):
                continue
            fused = _FUSED.get(of_torch(expression(product.func), source))
            if fused and [(argument.keyword, argument.star) for argument in product.args] == [(None, "")] * 2:
                a, b = (code(argument.value) for argument in product.args)
                text = f"{torch}.{fused}({code(other)}, {a}, {b})"
                yield Rewrite(f"`{text}`", replaced(function, total, cst.parse_expression(text)))
                break
