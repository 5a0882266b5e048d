"""`pop(0)` and `insert(0, x)` move every element of a list; a deque does either in constant time.

The list is made by the function, seen by nobody else, and used in no way but those that a deque has too: `append`,
`extend`, `pop`, `clear`, its ends, its length and its truth. Another use (a slice, an index, being returned or gone
through) disqualifies. The IndexError of an empty queue has another text.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import binding, blocks, bound_names, code, private_local, replaced, syntax
from omniperf.agents.arms.pattern.uses import LOOPS, parents, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 14
EXAMPLE_BEFORE = """\
import sys


def reached(start, edges):
    seen = {start}
    queue = [start]
    while queue:
        node = queue.pop(0)
        for other in edges.get(node, ()):
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return sorted(seen)
"""
EXAMPLE_AFTER = """\
import sys
from collections import deque


def reached(start, edges):
    seen = {start}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for other in edges.get(node, ()):
            if other not in seen:
                seen.add(other)
                queue.append(other)
    return sorted(seen)
"""
EXAMPLE_CALLS = ("reached(1, {1: [2, 3], 2: [4], 4: [1]})", "reached(1, {})")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each local list that is a queue."""
    if not source.builtin("list", "len"):
        return
    tree = syntax(function)
    for block in blocks(function):
        for statement in block.node.body:
            name, value = binding(statement) or ("", None)
            if value is None or not _fresh(value) or bound_names(tree)[name] != 1:
                continue
            if not private_local(function, name) or not _queue(tree, name):
                continue
            called, prelude = _deque(source)
            made = cst.Call(cst.parse_expression(called), [cst.Arg(value)] if _filled(value) else [])
            new = replaced(function, value, made)
            yield Rewrite(f"`{name}` as a deque", cst.ensure_type(new.visit(_Ends(name)), cst.FunctionDef), prelude)


def _fresh(value: cst.BaseExpression) -> bool:
    return isinstance(value, cst.List | cst.ListComp) or (
        isinstance(value, cst.Call) and isinstance(value.func, cst.Name) and value.func.value == "list"
    )


def _filled(value: cst.BaseExpression) -> bool:
    return not (isinstance(value, cst.List) and not value.elements) and code(value) != "list()"


def _deque(source: Source) -> tuple[str, tuple[str, ...]]:
    """Return how `deque` is spelled in this module, and the import it still needs."""
    for local, origin in source.members.items():
        if origin == ("collections", "deque"):
            return local, ()
    if module := source.local_name("collections"):
        return f"{module}.deque", ()
    for line in source.prelude:
        if line.startswith("from collections import deque"):
            return line.split()[-1], (line,)
    name = source.fresh("deque")
    return name, (f"from collections import deque{'' if name == 'deque' else f' as {name}'}",)


def _queue(tree: ast.AST, name: str) -> bool:
    """Whether a deque can do all that is done with the list, and an end is moved in a loop."""
    above = parents(tree)
    moved = False
    for use in uses(tree, name):
        parent = above[use]
        if isinstance(use.ctx, ast.Store):
            continue
        if isinstance(parent, ast.Attribute):
            call = above[parent]
            if not isinstance(call, ast.Call) or call.func is not parent or not _both_have(parent.attr, call):
                return False
            moved = moved or (bool(_end_moved(parent.attr, call)) and _in_loop(call, above))
        elif not _end_or_size(use, above):
            return False
    return moved


def _both_have(method: str, call: ast.Call) -> bool:
    if call.keywords or any(isinstance(argument, ast.Starred) for argument in call.args):
        return False
    if method in {"pop", "insert"}:
        return _end_moved(method, call) or (method == "pop" and not call.args)
    return method in {"append", "extend", "clear"}


def _end_moved(method: str, call: ast.Call) -> bool:
    """Whether a call is `pop(0)` or `insert(0, x)`."""
    match method, call.args:
        case ("pop", [ast.Constant(value=0)]) | ("insert", [ast.Constant(value=0), _]):
            return not isinstance(call.args[0].value, bool)  # type: ignore[attr-defined]
    return False


def _end_or_size(use: ast.Name, above: dict[ast.AST, ast.AST]) -> bool:
    parent = above[use]
    match parent:
        case ast.Subscript(slice=ast.Constant(value=0) | ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=1))):
            return isinstance(parent.ctx, ast.Load)
        case ast.Call(func=ast.Name(id="len")) | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            return test is use
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[listed]):
            return listed is use
        case ast.BoolOp():
            around: ast.AST = parent
            while isinstance(above[around], ast.BoolOp | ast.UnaryOp):
                around = above[around]
            outer = above[around]
            return isinstance(outer, ast.If | ast.While | ast.IfExp) and outer.test is around
    return False


def _in_loop(node: ast.AST, above: dict[ast.AST, ast.AST]) -> bool:
    around: ast.AST | None = node
    while around is not None:
        if isinstance(around, LOOPS):
            return True
        around = above.get(around)
    return False


class _Ends(cst.CSTTransformer):
    """Spells the moves at the front as a deque does."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:  # noqa: ARG002, N802 - libcst's
        match updated_node:
            case cst.Call(
                func=cst.Attribute(value=cst.Name(value=base), attr=cst.Name(value="pop" | "insert" as method)),
                args=[cst.Arg(value=cst.Integer(value="0")), *rest],
            ) if base == self.name:
                attribute = cst.ensure_type(updated_node.func, cst.Attribute)
                spelled = cst.Name("popleft" if method == "pop" else "appendleft")
                return updated_node.with_changes(func=attribute.with_changes(attr=spelled), args=rest)
        return updated_node
