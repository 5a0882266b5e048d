"""`s += part` in a loop copies the string whenever something else holds it; collect the parts and join them once.

Assumes that every part is a str: `join` refuses the object whose `__radd__` would have let it pass. It refuses it later
than `+=` does, so a part whose TypeError might be caught where it is added stays.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
from libcst.helpers import parse_template_expression

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    Block,
    binding,
    blocks,
    flat,
    mentions,
    private_local,
    rewritten,
    syntax,
    with_body,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 30
EXAMPLE_BEFORE = """\
def table(rows):
    text = ""
    for row in rows:
        for cell in row:
            text += str(cell) + "|"
        text = text + "\\n"
    return text
"""
EXAMPLE_AFTER = """\
def table(rows):
    text_parts = []
    for row in rows:
        for cell in row:
            text_parts.append(str(cell) + "|")
        text_parts.append("\\n")
    text = "".join(text_parts)
    return text
"""
EXAMPLE_CALLS = ("table([[1, 2], [], ['x']])", "table([])")


_OTHER_ERRORS = {
    "ArithmeticError", "AttributeError", "EOFError", "IndexError", "KeyError", "LookupError", "OSError", "RuntimeError",
    "StopIteration", "UnicodeError", "ValueError",
}  # fmt: skip


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each string that starts as a literal and only grows until the loops are over."""
    for block in blocks(function):
        for index, statement in enumerate(block.node.body):
            name, value = binding(statement) or ("", None)
            if not isinstance(value, cst.SimpleString) or not isinstance(value.evaluated_value, str):
                continue
            if not private_local(function, name) or _seen_elsewhere(function, block, index, name):
                continue
            if body := _collected(block, index, name, value, source.fresh(f"{name}_parts")):
                yield Rewrite(f"`{name}` joined from parts", with_body(function, block, body))


def _seen_elsewhere(function: cst.FunctionDef, block: Block, index: int, name: str) -> bool:
    """Whether other code could see the string before the join, after a break or an exception."""
    if all(isinstance(around, cst.If) for around in block.enclosing):
        return False
    inside = sum(mentions(syntax(statement), name) for statement in block.node.body[index:])
    return mentions(syntax(function), name) > inside


def _collected(
    block: Block, index: int, name: str, start: cst.SimpleString, parts: str
) -> list[cst.BaseStatement] | None:
    """Return the block with the parts collected; None where the string does not grow in a loop, unread."""
    statements = list(block.node.body)
    collected: list[tuple[cst.BaseStatement, ...]] = []
    last, in_loop = -1, False
    for statement in statements[index + 1 :]:
        new = flat(rewritten(statement, lambda node: _appended(node, name, parts)))
        trees = [syntax(part) for part in new]
        if any(mentions(tree, name) or _catches(tree, parts) for tree in trees):
            break
        if any(mentions(tree, parts) for tree in trees):
            last = len(collected)
            in_loop = in_loop or any(_grows_in_loop(tree, parts) for tree in trees)
        collected.append(new)
    if not in_loop:
        return None
    first = cst.ensure_type(statements[index], cst.SimpleStatementLine)
    beginning = cst.List([cst.Element(start)] if start.evaluated_value else [])
    started = cst.Assign([cst.AssignTarget(cst.Name(parts))], beginning)
    joined = first.body[0].with_changes(value=cst.parse_expression(f'"".join({parts})'))
    return [
        *statements[:index],
        first.with_changes(body=[started]),
        *(part for new in collected[: last + 1] for part in new),
        cst.SimpleStatementLine([joined]),
        *statements[index + last + 2 :],
    ]


def _catches(tree: ast.AST, parts: str) -> bool:
    """Whether a part is added where the TypeError of what is no str might be caught."""
    for node in ast.walk(tree):
        match node:
            case ast.Try(body=body, handlers=handlers) | ast.TryStar(body=body, handlers=handlers):
                if any(mentions(inner, parts) for inner in body) and not all(map(_of_other_errors, handlers)):
                    return True
            case ast.With(items=items) if mentions(node, parts):
                if any("suppress" in ast.unparse(item.context_expr) for item in items):
                    return True
    return False


def _of_other_errors(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return all(isinstance(one, ast.Name) and one.id in _OTHER_ERRORS for one in caught)


def _appended(node: cst.CSTNode, name: str, parts: str) -> cst.CSTNode:
    """Turn `name += part` and `name = name + part` into an append."""
    match node:
        case cst.AugAssign(target=cst.Name(value=target), operator=cst.AddAssign(), value=value) if target == name:
            part: cst.BaseExpression | None = value
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=target))], value=value) if target == name:
            part = _without_first(value, name)
        case _:
            return node
    return cst.Expr(parse_template_expression(f"{parts}.append({{part}})", part=part)) if part else node


def _without_first(value: cst.BaseExpression, name: str) -> cst.BaseExpression | None:
    """Return `a + b` for `name + a + b`; None where the sum does not start with the name."""
    if not isinstance(value, cst.BinaryOperation) or not isinstance(value.operator, cst.Add):
        return None
    if isinstance(value.left, cst.Name) and value.left.value == name:
        return value.right
    rest = None if value.left.lpar else _without_first(value.left, name)
    return value.with_changes(left=rest) if rest else None


def _grows_in_loop(tree: ast.AST, parts: str) -> bool:
    loops = (node for node in ast.walk(tree) if isinstance(node, ast.For | ast.AsyncFor | ast.While))
    return any(mentions(loop, parts) for loop in loops)
