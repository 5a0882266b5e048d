"""`table[row]` in each turn of an inner loop over columns is the same row; look it up once, before that loop.

The container is a list, tuple or dict that nobody changes while the loop runs, and neither it nor the key is bound in
the loop. That there is such an element, even if the loop takes no turn, must be plain: the key comes from going through
the container (`for row in range(len(table))`), or the loop's own iterable or a statement just before it reads it too.
"""

from __future__ import annotations

import ast
from functools import partial
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    Block,
    blocks,
    bound_names,
    elements,
    expression,
    private_local,
    syntax,
    with_body,
    with_element,
)
from omniperf.agents.arms.pattern.uses import COMPREHENSIONS, SCOPES, kinds, unchanged_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 55
EXAMPLE_BEFORE = """\
def rows(table: list, width):
    total = 0
    for i in range(len(table)):
        for j in range(width):
            if table[i][j] > 0:
                total += table[i][j]
    return total
"""
EXAMPLE_AFTER = """\
def rows(table: list, width):
    total = 0
    for i in range(len(table)):
        table_i = table[i]
        for j in range(width):
            if table_i[j] > 0:
                total += table_i[j]
    return total
"""
EXAMPLE_CALLS = ("rows([[1, -2], [3, 4]], 2)", "rows([], 3)", "rows([[1], []], 0)")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop and each element that can leave it."""
    if not source.builtin("range", "len", "enumerate"):
        return
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    known = {name for name, kind in kinds(twin, source).items() if kind in {"list", "tuple", "dict"}}
    bindings = bound_names(twin)
    for block in blocks(function):
        for index, loop in enumerate(block.node.body):
            if not isinstance(loop, cst.For | cst.While):
                continue
            tree = syntax(loop).body[0]
            for name, key in _read(tree, known):
                if not private_local(function, name) or not private_local(function, key) or not bindings[key]:
                    continue  # a key of the module's may be bound anew by whatever is called
                left_alone = partial(unchanged_in, function=twin, name=name, source=source)
                if not left_alone(tree) or not _surely_there(block, index, name, key, left_alone):
                    continue
                element = source.fresh(f"{name}_{key}")
                made = cst.ensure_type(cst.parse_statement(f"{element} = {name}[{key}]"), cst.SimpleStatementLine)
                bare = loop.with_changes(leading_lines=())
                new = with_element(bare, name, key, element)
                assert isinstance(new, cst.For | cst.While)
                first = made.with_changes(leading_lines=loop.leading_lines)
                body = [*block.node.body[:index], first, new, *block.node.body[index + 1 :]]
                yield Rewrite(f"`{name}[{key}]` looked up before the loop", with_body(function, block, body))


def _read(tree: ast.stmt, known: set[str]) -> list[tuple[str, str]]:
    """Return container and key of the elements that each turn may read, in the order of the text."""
    assert isinstance(tree, ast.For | ast.While)
    bound = bound_names(tree)
    found: dict[tuple[str, str], None] = {}
    for part in (*([tree.test] if isinstance(tree, ast.While) else []), *tree.body):
        for node in ast.walk(part):
            match node:
                case ast.Subscript(value=ast.Name(id=name), slice=ast.Name(id=key)) if name in known:
                    if not bound[key] and all(isinstance(one.ctx, ast.Load) for one in elements(tree, name, key)):
                        found[name, key] = None
    return list(found)


def _surely_there(block: Block, index: int, name: str, key: str, left_alone: Callable[[ast.AST], bool]) -> bool:
    """Whether there is such an element before the loop; `left_alone` says whether a part leaves the container so."""
    loop = block.node.body[index]
    if isinstance(loop, cst.For):
        gone_through = expression(loop.iter)
        if elements(gone_through, name, key) and _certain(gone_through):
            return True
    for statement in reversed(block.node.body[:index]):
        tree = syntax(statement)
        if bound_names(tree)[name] or bound_names(tree)[key]:
            return False
        if _stores(tree, name, key):
            return True
        if not left_alone(tree):
            return False
        if isinstance(statement, cst.SimpleStatementLine) and _certain(tree) and elements(tree, name, key):
            return True
    around = block.enclosing[-1] if block.enclosing else None
    if not isinstance(around, cst.For) or around.body is not block.node:
        return False
    return left_alone(syntax(around)) and _goes_through(around, name, key)


def _stores(tree: ast.Module, name: str, key: str) -> bool:
    """Whether a statement does nothing after it has stored the element."""
    match tree.body:
        case [ast.Assign(targets=[ast.Subscript(value=ast.Name(id=base), slice=place)])]:
            return base == name and ast.unparse(place) == key
    return False


def _certain(tree: ast.AST) -> bool:
    """Whether nothing in a tree is evaluated only sometimes."""
    sometimes = (ast.BoolOp, ast.IfExp, ast.Assert, *SCOPES, *COMPREHENSIONS)
    return not any(isinstance(node, sometimes) for node in ast.walk(tree))


def _goes_through(loop: cst.For, name: str, key: str) -> bool:
    """Whether a loop binds the key to each index, or each key of a dict, in turn."""
    tree = syntax(loop).body[0]
    assert isinstance(tree, ast.For)
    if bound_names(tree)[key] != 1:
        return False
    match tree:
        case ast.For(target=ast.Name(id=bound), iter=ast.Call(func=ast.Name(id="range"), args=[counted])):
            return bound == key and ast.unparse(counted) == f"len({name})"
        case ast.For(target=ast.Tuple(elts=[ast.Name(id=bound), _]), iter=ast.Call(func=ast.Name(id="enumerate"))):
            return bound == key and ast.unparse(tree.iter) == f"enumerate({name})"
        case ast.For(target=ast.Tuple(elts=[ast.Name(id=bound), _])):
            return bound == key and ast.unparse(tree.iter) == f"{name}.items()"
    return False
