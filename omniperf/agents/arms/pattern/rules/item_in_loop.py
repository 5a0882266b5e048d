"""`x.sum().item()` in each turn of a loop waits for the device each time; the tensors are kept and read out together.

`total += x.sum().item()` and `values.append(x.sum().item())`, where the loop does nothing else with `total` or `values`
and what is read out is a reduction to one element, new in each turn. The same numbers are added in the same order.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, code, expression, mentions, private_local, syntax, with_body
from omniperf.agents.arms.pattern.tensors import REDUCTIONS, is_tensor, of_torch, tensors, twin_of
from omniperf.agents.arms.pattern.uses import SCOPES, kinds, only_simple, owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source
    from omniperf.agents.arms.pattern.uses import Function

RANK = 19
EXAMPLE_BEFORE = """\
import torch


def losses(batches: torch.Tensor):
    total = 0.0
    for batch in batches:
        total += (batch * batch).sum().item()
    return total
"""
EXAMPLE_AFTER = """\
import torch


def losses(batches: torch.Tensor):
    total = 0.0
    total_items = []
    for batch in batches:
        total_items.append((batch * batch).sum())
    if total_items:
        for total_item in torch.stack(total_items).tolist():
            total += total_item
    return total
"""
EXAMPLE_CALLS = ("losses(torch.tensor([[0.1, 0.2], [0.3, 4.0], [1e9, 7.0]]))", "losses(torch.zeros(0, 2))")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each number that a loop reads out and keeps."""
    torch, twin = source.local_name("torch"), twin_of(function)
    known = tensors(twin, source)
    if torch is None or not known:
        return
    for outer in blocks(function):
        if any(isinstance(around, cst.Try | cst.TryStar | cst.With) for around in outer.enclosing):
            continue
        for index, loop in enumerate(outer.node.body):
            if not isinstance(loop, cst.For | cst.While) or loop.orelse or not isinstance(loop.body, cst.IndentedBlock):
                continue
            tree = syntax(loop).body[0]
            if any(isinstance(node, (*SCOPES, ast.Yield, ast.Await, ast.Try)) for node in ast.walk(tree)):
                continue
            for statement in loop.body.body:
                if not isinstance(statement, cst.SimpleStatementLine):
                    continue
                name, read, adds = _read_out(statement) or ("", None, False)
                if read is None or mentions(tree, name) != 1 or not private_local(function, name):
                    continue
                if not _one_element(expression(read), known, source) or not _numbers(twin, name, adds, source):
                    continue
                items = source.fresh(f"{name}_items")
                item = source.fresh(f"{name}_item", taken=[items])
                rest = f"{torch}.stack({items}).tolist()"
                after = f"    for {item} in {rest}:\n        {name} += {item}" if adds else f"    {name}.extend({rest})"
                keep = cst.ensure_type(cst.parse_statement(f"{items}.append({code(read)})"), cst.SimpleStatementLine)
                kept = keep.with_changes(leading_lines=statement.leading_lines)
                first = cst.parse_statement(f"{items} = []").with_changes(leading_lines=loop.leading_lines)
                inner = loop.with_changes(body=loop.body.deep_replace(statement, kept), leading_lines=())
                last = cst.parse_statement(f"if {items}:\n{after}\n")
                body = [*outer.node.body[:index], first, inner, last, *outer.node.body[index + 1 :]]
                yield Rewrite(f"`{name}` read out once, after the loop", with_body(function, outer, body))


def _read_out(statement: cst.SimpleStatementLine) -> tuple[str, cst.BaseExpression, bool] | None:
    """Return name, tensor and whether it is added for `name += x.item()` and `name.append(x.item())`."""
    match statement:
        case cst.SimpleStatementLine(
            body=[cst.AugAssign(target=cst.Name(value=name), operator=cst.AddAssign(), value=value)]
        ):
            adds = True
        case cst.SimpleStatementLine(
            body=[
                cst.Expr(
                    cst.Call(
                        func=cst.Attribute(value=cst.Name(value=name), attr=cst.Name("append")),
                        args=[cst.Arg(value=value, keyword=None, star="")],
                    )
                )
            ]
        ):
            adds = False
        case _:
            return None
    match value:
        case cst.Call(func=cst.Attribute(value=read, attr=cst.Name("item")), args=[]):
            return name, read, adds
    return None


def _one_element(read: ast.expr, known: set[str], source: Source) -> bool:
    """Whether an expression reduces a tensor to a new one of one element, without dimensions."""
    match read:
        case ast.Call(func=called, args=[given], keywords=[]) if of_torch(called, source) in REDUCTIONS:
            return is_tensor(given, known, source)
        case ast.Call(func=ast.Attribute(value=base, attr=method), args=[], keywords=[]):
            return method in REDUCTIONS and is_tensor(base, known, source)
    return False


def _numbers(function: Function, name: str, adds: bool, source: Source) -> bool:
    """Whether a name is a number, or a list of this function's own."""
    if adds:
        return only_simple(function, name, source)
    return kinds(function, source).get(name) == "list" and owned(function, name, source)
