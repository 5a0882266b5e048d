"""Indexing with a mask first counts its elements, for which the host waits; `torch.where` reads and writes in place.

`a[mask] = b[mask]`, where the mask compares `a` or `b` with a number and so has its shape. Copies are exact. And
`x[x > 0].sum()`, where zeros take the place of what is left out: the same sum in another order.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, bound_names, code, expression, replaced, syntax
from omniperf.agents.arms.pattern.tensors import tensors, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source
    from omniperf.agents.arms.pattern.uses import Function

RANK = 27
EXAMPLE_BEFORE = """\
import torch


def clipped(new: torch.Tensor, old: torch.Tensor):
    high = new > 2
    new[high] = old[high]
    return new, new[new > 0].sum()
"""
EXAMPLE_AFTER = """\
import torch


def clipped(new: torch.Tensor, old: torch.Tensor):
    high = new > 2
    new.copy_(torch.where(high, old, new))
    return new, torch.where(new > 0, new, 0).sum()
"""
EXAMPLE_CALLS = ("[part.tolist() for part in clipped(torch.tensor([3.0, -1.0, 2.0]), torch.tensor([0.5, 6.0, 7.0]))]",)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each statement or sum that a mask indexes."""
    torch, twin = source.local_name("torch"), twin_of(function)
    known = tensors(twin, source)
    if torch is None or not known:
        return
    for block in blocks(function):
        for statement in block.node.body:
            if isinstance(statement, cst.SimpleStatementLine) and (
                text := _where(syntax(statement), twin, known, torch)
            ):
                new = statement.with_changes(body=[cst.Expr(cst.parse_expression(text))])
                yield Rewrite(f"`{text}`", replaced(function, statement, new))
    summed = m.Call(func=m.Attribute(value=m.Subscript(value=m.Name()), attr=m.Name("sum")), args=[])
    for found in m.findall(function.body, summed):
        call = cst.ensure_type(found, cst.Call)
        match expression(call):
            case ast.Call(func=ast.Attribute(value=ast.Subscript(value=ast.Name(id=x), slice=ast.Compare() as mask))):
                if x in known and _compared(mask, twin) == x:
                    chosen = cst.parse_expression(f"{torch}.where({ast.unparse(mask)}, {x}, 0)")
                    new_call = call.with_changes(
                        func=cst.ensure_type(call.func, cst.Attribute).with_changes(value=chosen)
                    )
                    yield Rewrite(f"`{code(new_call)}`", replaced(function, call, new_call))


def _where(tree: ast.Module, function: Function, known: set[str], torch: str) -> str | None:
    match tree.body:
        case [
            ast.Assign(
                targets=[ast.Subscript(value=ast.Name(id=a), slice=mask)],
                value=ast.Subscript(value=ast.Name(id=b), slice=again),
            )
        ] if a != b and {a, b} <= known and ast.dump(mask) == ast.dump(again) and _compared(mask, function) in (a, b):
            return f"{a}.copy_({torch}.where({ast.unparse(mask)}, {b}, {a}))"
    return None


def _compared(mask: ast.expr, function: Function) -> str | None:
    """Return the name of what a mask compares with a number; None where its shape may be another."""
    match mask:
        case ast.Compare(
            left=ast.Name(id=name),
            ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE() | ast.Eq() | ast.NotEq()],
            comparators=[
                ast.Constant(value=int() | float()) | ast.UnaryOp(operand=ast.Constant(value=int() | float()))
            ],
        ):
            return name
        case ast.Name(id=short) if bound_names(function)[short] == 1:
            for node in ast.walk(function):
                match node:
                    case ast.Assign(targets=[ast.Name(id=bound)], value=ast.Compare() as value) if bound == short:
                        compared = _compared(value, function)
                        return compared if compared and bound_names(function)[compared] == 1 else None
    return None
