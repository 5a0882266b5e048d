"""`contiguous()` copies a transposed or sliced tensor; what reads it by its strides needs no copy.

Taken away in front of a product of matrices (`@`, `mm`, `bmm`, `matmul`) and of a reduction, which may then add in
another order; `x.contiguous().view(...)` becomes `x.reshape(...)`, which copies only if it must, where the result is
only calculated with.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.tensors import REDUCTIONS, calculated_with, of_torch, twin_of
from omniperf.agents.arms.pattern.uses import parents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source
    from omniperf.agents.arms.pattern.uses import Function

RANK = 31
EXAMPLE_BEFORE = """\
import torch


def scores(query: torch.Tensor, key: torch.Tensor):
    flat = query.t().contiguous().view(-1) * 2
    return query @ key.t().contiguous(), flat
"""
EXAMPLE_AFTER = """\
import torch


def scores(query: torch.Tensor, key: torch.Tensor):
    flat = query.t().reshape(-1) * 2
    return query @ key.t(), flat
"""
EXAMPLE_CALLS = ("[part.tolist() for part in scores(torch.ones(2, 3), torch.eye(3))]",)

_COPIED = m.Call(func=m.Attribute(attr=m.Name("contiguous")), args=[])
_VIEWED = m.Call(func=m.Attribute(value=_COPIED, attr=m.Name("view")))


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each copy that nobody needs."""
    if source.local_name("torch") is None:
        return
    twin = twin_of(function)
    for found in m.findall(function.body, _VIEWED):
        call = cst.ensure_type(found, cst.Call)
        if calculated_with(expression(call), twin, source):
            view = cst.ensure_type(call.func, cst.Attribute)
            func = view.with_changes(value=_bare(view.value), attr=cst.Name("reshape"))
            yield Rewrite(
                f"`{code(call.with_changes(func=func))}`", replaced(function, call, call.with_changes(func=func))
            )
    for found in m.findall(function.body, _COPIED):
        call = cst.ensure_type(found, cst.Call)
        if _by_strides(expression(call), twin, source):
            yield Rewrite(f"`{code(_bare(call))}` as it lies", replaced(function, call, _bare(call)))


def _bare(copied: cst.BaseExpression) -> cst.BaseExpression:
    return cst.ensure_type(cst.ensure_type(copied, cst.Call).func, cst.Attribute).value


def _by_strides(copied: ast.expr, function: Function, source: Source) -> bool:
    """Whether each place where this copy stands multiplies or reduces it."""
    above, text = parents(function), ast.dump(copied)
    return all(_reads(node, above, source) for node in above if ast.dump(node) == text)


def _reads(copied: ast.AST, above: dict[ast.AST, ast.AST], source: Source) -> bool:
    parent = above[copied]
    match parent:
        case ast.BinOp(op=ast.MatMult()):
            return True
        case ast.Call(func=called):
            return of_torch(called, source) in {"bmm", "matmul", "mm"}
        case ast.Attribute(attr=method):
            call = above[parent]
            return method in REDUCTIONS | {"bmm", "matmul", "mm"} and isinstance(call, ast.Call) and call.func is parent
    return False
