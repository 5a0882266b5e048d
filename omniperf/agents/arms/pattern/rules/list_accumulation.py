"""`items = items + [x]` in a loop copies the list in each turn; `append` and `extend` do not.

The list must be the function's own in every respect: `+` makes a new list, so whoever still held the old one would now
see it grow. All other uses may only read it, or return it in leaving the function.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
from libcst.helpers import parse_template_expression

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, code, mentions, private_local, replaced, syntax
from omniperf.agents.arms.pattern.uses import LOOPS, kinds, owned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 15
EXAMPLE_BEFORE = """\
def pairs(numbers):
    found = []
    for number in numbers:
        found = found + [number]
        if number > 2:
            found = found + [number - 1, len(found)]
    return found
"""
EXAMPLE_AFTER = """\
def pairs(numbers):
    found = []
    for number in numbers:
        found.append(number)
        if number > 2:
            found.extend([number - 1, len(found)])
    return found
"""
EXAMPLE_CALLS = ("pairs([1, 2, 3])", "pairs([])")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each local list and each place where it grows by a copy."""
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    for block in blocks(function):
        if not any(isinstance(around, cst.For | cst.While) for around in block.enclosing):
            continue
        for statement in block.node.body:
            name, added = _grown(statement) or ("", None)
            if added is None or not private_local(function, name) or not _own(twin, name, source):
                continue
            call = f"{name}.append({{part}})" if len(added.elements) == 1 else f"{name}.extend({{part}})"
            part = added.elements[0].value if len(added.elements) == 1 else added
            new = cst.Expr(parse_template_expression(call, part=part))
            line = cst.ensure_type(statement, cst.SimpleStatementLine)
            yield Rewrite(f"`{code(new)}`", replaced(function, line, line.with_changes(body=[new])))


def _grown(statement: cst.BaseStatement) -> tuple[str, cst.List] | None:
    """Return name and list for `name = name + [...]`."""
    match statement:
        case cst.SimpleStatementLine(
            body=[
                cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Name(value=name))],
                    value=cst.BinaryOperation(left=cst.Name(value=left), operator=cst.Add(), right=cst.List() as added),
                )
            ]
        ) if name == left and added.elements and all(isinstance(one, cst.Element) for one in added.elements):
            return name, added
    return None


class _Shortened(ast.NodeTransformer):
    """Turns `name = name + [...]` into `name += [...]`, which `kinds` and `owned` understand."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)],
                value=ast.BinOp(left=ast.Name(id=left), op=ast.Add(), right=ast.List() as right),
            ) if name == left == self.name:
                return ast.AugAssign(ast.Name(name, ast.Store()), ast.Add(), right)
        return node


def _own(function: ast.FunctionDef | ast.AsyncFunctionDef, name: str, source: Source) -> bool:
    """Whether the name is a list of the function's own that no turn of a loop goes through while it grows."""
    tree = _Shortened(name).visit(ast.parse(ast.unparse(function)).body[0])
    if kinds(tree, source).get(name) != "list" or not owned(tree, name, source):
        return False
    return not any(
        isinstance(node, ast.For | ast.AsyncFor) and mentions(node.iter, name)
        for node in ast.walk(tree)
        if isinstance(node, LOOPS)
    )
