"""A loop that copies rows one by one launches a kernel, or two, for each; indexing with a tensor copies all in one.

`for i in range(n): out[i] = table[index[i]]`, or without `index`, with nothing else in the loop. `out` is made here and
the loop is the next to use it, so it shares no memory with the others; `n` is the length of one of the tensors; `i` is
used nowhere else. Copies are exact.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.memory import allocations, next_use
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, bound_names, mentions, syntax, with_body
from omniperf.agents.arms.pattern.tensors import tensors, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source
    from omniperf.agents.arms.pattern.uses import Function

RANK = 11
EXAMPLE_BEFORE = """\
import torch


def looked_up(table: torch.Tensor, index: torch.Tensor):
    count = index.shape[0]
    out = torch.empty(count, table.shape[1])
    for i in range(count):
        out[i] = table[index[i]]
    return out
"""
EXAMPLE_AFTER = """\
import torch


def looked_up(table: torch.Tensor, index: torch.Tensor):
    count = index.shape[0]
    out = torch.empty(count, table.shape[1])
    out[:count] = table[index[:count]]
    return out
"""
EXAMPLE_CALLS = (
    "looked_up(torch.arange(6.0).reshape(3, 2), torch.tensor([2, 0, 2, -1])).tolist()",
    "looked_up(torch.ones(3, 2), torch.tensor([], dtype=torch.long)).tolist()",
)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each such loop."""
    twin = twin_of(function)
    known = tensors(twin, source)
    if not known or not source.builtin("range", "len"):
        return
    for block in blocks(function):
        for made in allocations(function, block, source):
            at = next_use(block, made.index, made.name)
            if made.library != "torch" or at is None or not isinstance(block.node.body[at], cst.For):
                continue
            text = _indexed(syntax(block.node.body[at]).body[0], twin, made.name, known)
            if text is not None:
                loop = cst.ensure_type(block.node.body[at], cst.For)
                new = cst.ensure_type(cst.parse_statement(text), cst.SimpleStatementLine)
                new = new.with_changes(leading_lines=loop.leading_lines)
                body = [*block.node.body[:at], new, *block.node.body[at + 1 :]]
                yield Rewrite(f"`{text}` for a loop", with_body(function, block, body))


def _indexed(loop: ast.stmt, function: Function, out: str, known: set[str]) -> str | None:
    """Return the statement that copies what a loop copies; None for any other loop."""
    match loop:
        case ast.For(
            target=ast.Name(id=i),
            iter=ast.Call(func=ast.Name(id="range"), args=[count], keywords=[]),
            body=[
                ast.Assign(
                    targets=[ast.Subscript(value=ast.Name(id=stored), slice=ast.Name(id=place))],
                    value=ast.Subscript(value=ast.Name(id=table), slice=read),
                )
            ],
            orelse=[],
        ):
            pass
        case _:
            return None
    if (stored, place) != (out, i) or mentions(function, i) != mentions(loop, i):
        return None
    n = ast.unparse(count)
    match read:
        case ast.Name(id=same) if same == i and table in known - {out}:
            used, text = {out, table}, f"{table}[:{n}]"
        case ast.Subscript(value=ast.Name(id=index), slice=ast.Name(id=same)) if same == i:
            if not {table, index} <= known - {out}:
                return None
            used, text = {out, table, index}, f"{table}[{index}[:{n}]]"
        case _:
            return None
    return f"{out}[:{n}] = {text}" if _length(count, function) & used else None


def _length(count: ast.expr, function: Function) -> set[str]:
    """Return the name whose length an expression is, or was where its own name was bound."""
    match count:
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
            return {name}
        case ast.Subscript(value=ast.Attribute(value=ast.Name(id=name), attr="shape"), slice=ast.Constant(value=0)):
            return {name}
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="size"), args=[ast.Constant(value=0)]):
            return {name}
        case ast.Name(id=short) if bound_names(function)[short] == 1:
            values = [
                node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign) and [ast.unparse(one) for one in node.targets] == [short]
            ]
            return _length(values[0], function) if values and not isinstance(values[0], ast.Name) else set()
    return set()
