"""A number made into a tensor to calculate with is copied to the device; written as a number it travels in the launch.

`x * torch.tensor(2.0)`, for numbers that every floating type holds exactly, so that no rounding changes; what else the
call says may only be `device=` and `dtype=` of the tensor it meets.
"""

from __future__ import annotations

import ast
import struct
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.tensors import is_tensor, of_torch, tensors, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 42
EXAMPLE_BEFORE = """\
import torch


def blended(x: torch.Tensor, y: torch.Tensor):
    return x * torch.tensor(0.5, device=x.device) + torch.tensor(2.0, dtype=y.dtype) * y
"""
EXAMPLE_AFTER = """\
import torch


def blended(x: torch.Tensor, y: torch.Tensor):
    return x * 0.5 + 2.0 * y
"""
EXAMPLE_CALLS = ("blended(torch.tensor([1.0, 3.0]), torch.ones(2)).tolist()",)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each number that meets a tensor."""
    known = tensors(twin_of(function), source)
    for found in m.findall(function.body, m.BinaryOperation()) if known else ():
        operation = cst.ensure_type(found, cst.BinaryOperation)
        for number, other in ((operation.right, operation.left), (operation.left, operation.right)):
            if not isinstance(number, cst.Call) or of_torch(expression(number.func), source) != "tensor":
                continue
            if isinstance(other, cst.Call) and of_torch(expression(other.func), source) == "tensor":
                continue
            if is_tensor(expression(other), known, source) and _exact(expression(number), code(other)):
                value = number.args[0].value
                yield Rewrite(f"{code(value)} for `{code(number)}`", replaced(function, number, value))
                break


def _exact(call: ast.expr, other: str) -> bool:
    """Whether a call holds a number that 8 bits of mantissa and 5 of exponent hold, with no type of its own."""
    match call:
        case ast.Call(args=[ast.Constant(value=float(value))], keywords=keywords):
            kept = {"device": f"{other}.device", "dtype": f"{other}.dtype"}
            if not all(keyword.arg in kept and ast.unparse(keyword.value) == kept[keyword.arg] for keyword in keywords):
                return False
            bits: int = struct.unpack("<I", struct.pack("<f", value))[0] if abs(value) < 65504 else 1
            return (
                bits & 0xFFFF == 0
                and struct.unpack("<f", struct.pack("<I", bits))[0] == value
                and (value == 0 or abs(value) >= 2**-14)
            )
    return False
