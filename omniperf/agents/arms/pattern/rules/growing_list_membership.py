"""Asking a list that grows in a loop whether it has an element makes the loop quadratic; keep a set beside it.

Assumes that the elements are hashable and that their equality agrees with their hash. The tests and the comparison of
outputs decide. The list itself stays, in its order, and nothing but `append` may change it while the set is in use.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    Block,
    Replacement,
    binding,
    blocks,
    code,
    flat,
    mentions,
    private_local,
    rewritten,
    syntax,
    with_body,
)
from omniperf.agents.arms.pattern.uses import LOOPS, parents, reads, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 10
EXAMPLE_BEFORE = """\
def unique(items):
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen
"""
EXAMPLE_AFTER = """\
def unique(items):
    seen = []
    seen_set = set()
    for item in items:
        if item not in seen_set:
            seen.append(item)
            seen_set.add(item)
    return seen
"""
EXAMPLE_CALLS = ("unique([3, 1, 3, 2, 1])", "unique([])", "unique('banana')")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each local list that is appended to and searched in a loop."""
    if not source.builtin("set", "list"):
        return
    for block in blocks(function):
        for index, statement in enumerate(block.node.body):
            name, value = binding(statement) or ("", None)
            if value is None or not (isinstance(value, cst.List) or code(value) == "list()"):
                continue
            if not private_local(function, name):
                continue
            beside = source.fresh(f"{name}_set")
            if body := _with_set(block, index, name, beside, source):
                beginning = f"set({name})" if isinstance(value, cst.List) and value.elements else "set()"
                body.insert(index + 1, cst.parse_statement(f"{beside} = {beginning}"))
                yield Rewrite(f"a set beside the list `{name}`", with_body(function, block, body))


def _with_set(block: Block, index: int, name: str, beside: str, source: Source) -> list[cst.BaseStatement] | None:
    """Return the block with the set kept up to date and asked; None where no loop both grows and asks the list."""
    statements = list(block.node.body)
    changed: list[tuple[cst.BaseStatement, ...]] = []
    last, worth = -1, False
    for statement in statements[index + 1 :]:
        if not _only_read(syntax(statement), name, source):
            break
        new = flat(rewritten(statement, lambda node: _mirrored(node, name, beside)))
        trees = [syntax(part) for part in new]
        if any(_asked(tree, beside) for tree in trees):
            last = len(changed)
            worth = worth or any(_grows_and_asks_in_loop(tree, beside) for tree in trees)
        changed.append(new)
    if not worth:
        return None
    return [
        *statements[: index + 1],
        *(part for new in changed[: last + 1] for part in new),
        *statements[index + last + 2 :],
    ]


def _mirrored(node: cst.CSTNode, name: str, beside: str) -> Replacement:
    """Ask the set instead of the list, and add to it what is appended."""
    if isinstance(node, cst.Comparison):
        target = node.comparisons[-1]  # another one's list is compared with what follows, too
        match target:
            case cst.ComparisonTarget(operator=cst.In() | cst.NotIn(), comparator=cst.Name(value=asked)) if (
                asked == name
            ):
                new = target.with_changes(comparator=target.comparator.with_changes(value=beside))
                return node.with_changes(comparisons=[*node.comparisons[:-1], new])
    elif isinstance(node, cst.SimpleStatementLine | cst.SimpleStatementSuite):
        added = [_added(small, name, beside) for small in node.body]
        if isinstance(node, cst.SimpleStatementLine) and len(added) == 1 and added[0]:
            return cst.FlattenSentinel([node, cst.SimpleStatementLine([added[0]])])
        if any(added):
            pairs = zip(node.body, added, strict=True)
            body = [small for pair in pairs for small in pair if small is not None]
            return node.with_changes(body=[s.with_changes(semicolon=cst.MaybeSentinel.DEFAULT) for s in body])
    return node


def _added(small: cst.BaseSmallStatement, name: str, beside: str) -> cst.Expr | None:
    """Return `beside.add(x)` for `name.append(x)`; what is costly or has effects is read back from the list."""
    match small:
        case cst.Expr(
            value=cst.Call(
                func=cst.Attribute(value=cst.Name(value=base), attr=cst.Name(value="append")),
                args=[cst.Arg(keyword=None, star="", value=value)],
            )
        ) if base == name:
            element = code(value) if isinstance(value, cst.Name | cst.SimpleString | cst.Integer) else f"{name}[-1]"
            return cst.Expr(cst.parse_expression(f"{beside}.add({element})"))
    return None


def _only_read(tree: ast.AST, name: str, source: Source) -> bool:
    """Whether the list is only appended to (as a statement), read, or given away in leaving the function."""
    above = parents(tree)
    return all(_reads(use, above, source) for use in uses(tree, name))


def _reads(use: ast.Name, above: dict[ast.AST, ast.AST], source: Source) -> bool:
    parent = above[use]
    match parent:
        case ast.Attribute(attr="append"):
            call = above[parent]
            if not isinstance(call, ast.Call) or len(call.args) != 1 or not isinstance(above[call], ast.Expr):
                return False
            return call.func is parent and not isinstance(call.args[0], ast.Starred)
        case ast.Tuple():
            return isinstance(above[parent], ast.Return)
        case ast.Return():
            return True
    return reads(use, above, source)


def _asked(tree: ast.AST, beside: str) -> bool:
    return any(isinstance(node, ast.Compare) and mentions(node, beside) for node in ast.walk(tree))


def _grows_and_asks_in_loop(tree: ast.AST, beside: str) -> bool:
    loops = [node for node in ast.walk(tree) if isinstance(node, LOOPS)]
    return any(_asked(loop, beside) and _grows(loop, beside) for loop in loops)


def _grows(tree: ast.AST, beside: str) -> bool:
    adds = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "add")
    return any(mentions(add, beside) for add in adds)
