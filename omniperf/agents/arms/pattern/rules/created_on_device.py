"""A tensor made in the host's memory and then moved is copied, and the host waits; `device=` makes it in its place.

For `arange`, `zeros`, `ones`, `full`, `empty`, `eye` and `tensor`, moved by `.cuda()` or by `.to` with what plainly is
a device. Random numbers would be others, so they stay; so does what has a device, needs a gradient or is pinned.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.tensors import of_torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 23
EXAMPLE_BEFORE = """\
import torch


def positions(x):
    return torch.arange(x.shape[0]).to(x.device) + torch.ones(1, dtype=torch.long).to(device=x.device)
"""
EXAMPLE_AFTER = """\
import torch


def positions(x):
    return torch.arange(x.shape[0], device=x.device) + torch.ones(1, dtype=torch.long, device=x.device)
"""
EXAMPLE_CALLS = ("positions(torch.zeros(3)).tolist()",)

_MADE = {"arange", "empty", "eye", "full", "ones", "tensor", "zeros"}
_KEPT = {"device", "layout", "out", "pin_memory", "requires_grad"}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each tensor that is moved as it is made."""
    for found in m.findall(function.body, m.Call(func=m.Attribute(value=m.Call(), attr=m.Name("to") | m.Name("cuda")))):
        moved = cst.ensure_type(found, cst.Call)
        made = cst.ensure_type(cst.ensure_type(moved.func, cst.Attribute).value, cst.Call)
        device = _device(moved)
        keywords = {argument.keyword.value for argument in made.args if argument.keyword}
        if device is None or keywords & _KEPT or any(argument.star == "**" for argument in made.args):
            continue
        if of_torch(expression(made.func), source) in _MADE:
            added = cst.ensure_type(cst.parse_expression(f"f(device={device})"), cst.Call).args[0]
            new = made.with_changes(args=[*made.args, added])
            yield Rewrite(f"`{code(new)}`", replaced(function, moved, new))


def _device(moved: cst.Call) -> str | None:
    """Return the code of the device that a call moves to; None where it is none, or more is said."""
    match expression(moved):
        case ast.Call(func=ast.Attribute(attr="cuda"), args=[], keywords=[]):
            return '"cuda"'
        case ast.Call(
            func=ast.Attribute(attr="to"),
            args=[ast.Name(id="device" | "dev") | ast.Attribute(attr="device") | ast.Constant(value=str())],
            keywords=[],
        ):
            return code(moved.args[0].value)
        case ast.Call(func=ast.Attribute(attr="to"), args=[], keywords=[ast.keyword(arg="device")]):
            return code(moved.args[0].value)
    return None
