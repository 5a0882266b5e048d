"""`x = torch.cat([x, part])` in a loop copies all of `x` in each turn; a list of the parts is joined once.

The loop does nothing else with `x`, which this function made, and each part keeps its elements until the loop is over.
Joining is exact; types that grow from part to part are joined in one step instead of several.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    Block,
    blocks,
    bound_names,
    code,
    expression,
    mentions,
    private_local,
    syntax,
    with_body,
)
from omniperf.agents.arms.pattern.tensors import fresh, keeps, of_torch, tensors, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 17
EXAMPLE_BEFORE = """\
import torch


def squares(rows: torch.Tensor):
    out = torch.zeros(0)
    for row in rows:
        out = torch.cat((out, row * row), dim=0)
    return out
"""
EXAMPLE_AFTER = """\
import torch


def squares(rows: torch.Tensor):
    out = torch.zeros(0)
    out_parts = [out]
    for row in rows:
        out_parts.append(row * row)
    out = torch.cat(out_parts, dim=0)
    return out
"""
EXAMPLE_CALLS = ("squares(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).tolist()", "squares(torch.zeros(0, 2)).tolist()")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each tensor that grows in a loop."""
    twin = twin_of(function)
    known = tensors(twin, source)
    for outer in blocks(function):
        if any(
            isinstance(around, cst.For | cst.While | cst.Try | cst.TryStar | cst.With) for around in outer.enclosing
        ):
            continue
        for index, loop in enumerate(outer.node.body):
            if not isinstance(loop, cst.For | cst.While) or loop.orelse:
                continue
            tree = syntax(loop).body[0]
            for statement in _statements(loop, function):
                name, call, part = _growing(statement, source) or ("", None, None)
                if call is None or part is None or mentions(tree, name) != 2 or not private_local(function, name):
                    continue
                bound = [one for node in ast.walk(twin) if isinstance(node, ast.Assign) for one in _values(node, name)]
                if len(bound) != bound_names(twin)[name] or not all(fresh(one, known, source) for one in bound):
                    continue
                if keeps(expression(part), tree, twin, source):
                    yield _joined(function, outer, index, statement, name, call, part, source)


def _statements(loop: cst.For | cst.While, function: cst.FunctionDef) -> list[cst.SimpleStatementLine]:
    """Return the simple statements of a loop, however deep, that no handler surrounds."""
    found = []
    for block in blocks(function):
        if loop in block.enclosing and not any(isinstance(one, cst.Try | cst.TryStar) for one in block.enclosing):
            found += [one for one in block.node.body if isinstance(one, cst.SimpleStatementLine)]
    return found


def _growing(statement: cst.SimpleStatementLine, source: Source) -> tuple[str, cst.Call, cst.BaseExpression] | None:
    """Return name, call and part for `name = torch.cat([name, part], ...)`."""
    match statement:
        case cst.SimpleStatementLine(
            body=[
                cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Name(value=name))],
                    value=cst.Call(
                        args=[
                            cst.Arg(value=cst.List() | cst.Tuple() as joined, keyword=None),
                            *_,
                        ]
                    ) as call,
                )
            ]
        ) if of_torch(expression(call.func), source) in {"cat", "concat", "concatenate"}:
            match joined.elements:
                case [cst.Element(value=cst.Name(value=first)), cst.Element(value=part)] if first == name:
                    return name, call, part
    return None


def _values(node: ast.Assign, name: str) -> list[ast.expr]:
    return [node.value for target in node.targets if isinstance(target, ast.Name) and target.id == name]


def _joined(
    function: cst.FunctionDef,
    outer: Block,
    index: int,
    statement: cst.SimpleStatementLine,
    name: str,
    call: cst.Call,
    part: cst.BaseExpression,
    source: Source,
) -> Rewrite:
    parts = source.fresh(f"{name}_parts")
    loop = cst.ensure_type(outer.node.body[index], cst.BaseCompoundStatement)  # type: ignore[type-abstract]
    append = cst.parse_expression(f"{parts}.append({code(part)})")
    inner = loop.deep_replace(statement, statement.with_changes(body=[cst.Expr(append)]))
    first = cst.parse_statement(f"{parts} = [{name}]").with_changes(leading_lines=loop.leading_lines)
    value = call.with_changes(args=[call.args[0].with_changes(value=cst.Name(parts)), *call.args[1:]])
    last = cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(cst.Name(name))], value)])
    body = [*outer.node.body[:index], first, inner.with_changes(leading_lines=()), last, *outer.node.body[index + 1 :]]
    return Rewrite(f"`{name}` joined once, after the loop", with_body(function, outer, body))
