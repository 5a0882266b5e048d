"""A conversion of what is converted so already, or there and back, reads and writes memory for nothing.

`x.float().float()`, `x.to(t).to(t)` and the like lose the second. `x.float().to(x.dtype)` is `x`, where it is only
calculated with: all types up to 32 bits come back as they went; a wider one's lost digits would show in the outputs.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.tensors import CONVERSIONS, calculated_with, tensors, twin_of
from omniperf.agents.arms.pattern.uses import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 30
EXAMPLE_BEFORE = """\
import torch


def normed(x: torch.Tensor):
    wide = x.float().to(torch.float32).to(torch.float32)
    return wide.sum() + x.float().to(x.dtype).sum()
"""
EXAMPLE_AFTER = """\
import torch


def normed(x: torch.Tensor):
    wide = x.float().to(torch.float32)
    return wide.sum() + x.sum()
"""
EXAMPLE_CALLS = ("normed(torch.tensor([1.5, 2.0], dtype=torch.bfloat16)).item()",)

_TWICE = m.Call(func=m.Attribute(value=m.Call(func=m.Attribute())))


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each conversion that changes nothing."""
    twin = twin_of(function)
    known = tensors(twin, source)
    for found in m.findall(function.body, _TWICE) if known else ():
        outer = cst.ensure_type(found, cst.Call)
        method = cst.ensure_type(outer.func, cst.Attribute)
        inner = cst.ensure_type(method.value, cst.Call)
        first = cst.ensure_type(inner.func, cst.Attribute)
        if not _starts_from(first.value, known):
            continue
        if method.attr.value in CONVERSIONS | {"contiguous"} and _said(outer) == _said(inner):
            yield Rewrite(f"`{code(inner)}` once", replaced(function, outer, inner))
        elif _there_and_back(expression(outer)) and calculated_with(expression(outer), twin, source):
            yield Rewrite(f"`{code(first.value)}` as it is", replaced(function, outer, first.value))


def _starts_from(node: cst.BaseExpression, known: set[str]) -> bool:
    """Whether a chain of methods starts from a tensor."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        node = node.func.value
    return isinstance(node, cst.Name) and node.value in known


def _said(call: cst.Call) -> tuple[str, ...]:
    """Return method and arguments; where those are more than names, what no other call says."""
    twin = expression(call)
    assert isinstance(twin, ast.Call) and isinstance(twin.func, ast.Attribute)
    if not all(plain(given) for given in (*twin.args, *(keyword.value for keyword in twin.keywords))):
        return (code(call),)
    return twin.func.attr, *map(ast.unparse, twin.args), *map(ast.unparse, twin.keywords)


def _there_and_back(outer: ast.expr) -> bool:
    match outer:
        case ast.Call(
            func=ast.Attribute(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=wide), args=given, keywords=[]),
                attr="to",
            ),
            args=[ast.Attribute(value=ast.Name(id=same), attr="dtype")],
            keywords=[],
        ):
            types = [one.attr for one in given if isinstance(one, ast.Attribute)]
            wider = (wide in {"float", "double"} and not given) or (
                wide == "to" and types in (["float32"], ["float64"])
            )
            return same == name and wider
    return False
