"""Memory that is filled with zeros and then handed to a kernel is often written whole by it.

Whether it is cannot be read off the call, so these rewrites are speculative: one is kept only where the outputs are
base's although all new memory holds NaN and the largest integers. For a kernel that leaves out the first element, as
those that write running totals do, that element alone is set to zero. Where a comment says that zeros are meant, they
stay: somebody may read what this workload does not. A launch is `kernel[grid](..., x, ...)` or a call
made for its effect, as of a compiled operator.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.memory import allocations, next_use, unfilled
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import Block, blocks, code, mentions, syntax, with_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 34
ALTERNATIVES = True
EXAMPLE_BEFORE = """\
import numpy


def running(values, kernel):
    ends = numpy.zeros(len(values) + 1, dtype=numpy.int64)
    kernel[(1,)](values, ends)
    return ends.tolist()
"""
EXAMPLE_AFTER = """\
import numpy


def running(values, kernel):
    ends = numpy.empty(len(values) + 1, dtype=numpy.int64)
    kernel[(1,)](values, ends)
    return ends.tolist()
"""
EXAMPLE_CALLS = ("running([1, 2, 3], {(1,): lambda given, ends: ends.__setitem__(..., 7)})",)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield for each such array a rewrite that fills nothing of it, and one that sets its first element."""
    for block in blocks(function):
        for made in allocations(function, block, source):
            following = next_use(block, made.index, made.name)
            if made.filled != 0 or following is None or _meant(block.node.body[made.index]):
                continue
            if not _launched(block.node.body[following], made.name):
                continue
            new = unfilled(made.call, source)
            if new is None:
                continue
            said = f"`{made.name} = {code(new)}`, written by what it is handed to"
            statement = cst.ensure_type(
                block.node.body[made.index].deep_replace(made.call, new), cst.SimpleStatementLine
            )
            first = cst.parse_statement(f"{made.name}[0] = 0")
            yield _with(function, block, made.index, said, statement)
            yield _with(function, block, made.index, f"{said} but for the first", statement, first)


def _with(
    function: cst.FunctionDef, block: Block, index: int, description: str, *statements: cst.BaseStatement
) -> Rewrite:
    body = [*block.node.body[:index], *statements, *block.node.body[index + 1 :]]
    return Rewrite(description, with_body(function, block, body), speculative=True)


def _meant(statement: cst.BaseStatement) -> bool:
    """Whether a comment above or behind the statement speaks of zeros."""
    comments = m.findall(statement, m.Comment())
    return any("zero" in cst.ensure_type(comment, cst.Comment).value.lower() for comment in comments)


def _launched(statement: cst.BaseStatement, name: str) -> bool:
    """Whether a statement is a call, made for its effect, that is handed the array itself."""
    match syntax(statement).body:
        case [ast.Expr(value=ast.Call(func=called, args=arguments, keywords=keywords))] if not mentions(called, name):
            handed = [*arguments, *(keyword.value for keyword in keywords)]
            return any(isinstance(one, ast.Name) and one.id == name for one in handed)
    return False
