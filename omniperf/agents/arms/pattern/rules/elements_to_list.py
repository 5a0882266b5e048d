"""Each element read out of a tensor on a GPU waits for the device and copies a few bytes; `tolist` does so once.

`x[i].item()`, `int(x[i])`, `float(x[i])` or `bool(x[i])` in a loop that does nothing else with the elements of `x` and
leaves it as it is. `x` has one element for each index, or the loop would have failed.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, flat, private_local, rewritten, syntax, with_body
from omniperf.agents.arms.pattern.tensors import tensors, twin_of, unwritten
from omniperf.agents.arms.pattern.uses import parents, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 13
EXAMPLE_BEFORE = """\
import torch


def spans(starts: torch.Tensor, names):
    found = {}
    for i, name in enumerate(names):
        found[name] = int(starts[i]), starts[i + 1].item()
    return found
"""
EXAMPLE_AFTER = """\
import torch


def spans(starts: torch.Tensor, names):
    found = {}
    starts_list = starts.reshape(-1).tolist()
    for i, name in enumerate(names):
        found[name] = int(starts_list[i]), starts_list[i + 1]
    return found
"""
EXAMPLE_CALLS = ("spans(torch.tensor([0, 2, 7]), 'ab')", "spans(torch.tensor([0.5]), '')")

_NUMBERS = ("bool", "float", "int")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop and tensor."""
    twin = twin_of(function)
    known = sorted(tensors(twin, source))
    if not known or not source.builtin(*_NUMBERS):
        return
    for block in blocks(function):
        for index, loop in enumerate(block.node.body):
            if not isinstance(loop, cst.For | cst.While):
                continue
            tree = syntax(loop).body[0]
            for name in known:
                if not _only_elements(tree, name) or not private_local(function, name):
                    continue
                if unwritten(tree, name, twin, source):
                    listed = source.fresh(f"{name}_list")
                    made = cst.parse_statement(f"{listed} = {name}.reshape(-1).tolist()")
                    new = flat(rewritten(loop, lambda node, n=name, to=listed: _listed(node, n, to)))  # type: ignore[misc]
                    bare = new[0].with_changes(leading_lines=())
                    first = made.with_changes(leading_lines=loop.leading_lines)
                    body = [*block.node.body[:index], first, bare, *block.node.body[index + 1 :]]
                    yield Rewrite(f"`{name}` as a list before the loop", with_body(function, block, body))


def _only_elements(loop: ast.stmt, name: str) -> bool:
    """Whether a loop reads single elements of a tensor as numbers, and does nothing else with it."""
    assert isinstance(loop, ast.For | ast.While)
    above, found = parents(loop), uses(loop, name)
    inside = {
        node for part in (*loop.body, *([loop.test] if isinstance(loop, ast.While) else [])) for node in ast.walk(part)
    }
    return bool(found) and all(use in inside and _as_number(above.get(use), above) for use in found)


def _as_number(element: ast.AST | None, above: dict[ast.AST, ast.AST]) -> bool:
    if not isinstance(element, ast.Subscript) or not _single(element.slice):
        return False
    match above.get(element):
        case ast.Call(func=ast.Name(id=called), args=[given], keywords=[]):
            return called in _NUMBERS and given is element
        case ast.Attribute(attr="item") as asked:
            call = above.get(asked)
            return isinstance(call, ast.Call) and call.func is asked
    return False


def _single(place: ast.expr) -> bool:
    """Whether an index is plainly one number."""
    allowed = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)
    return all(isinstance(node, allowed) for node in ast.walk(place))


def _listed(node: cst.CSTNode, name: str, listed: str) -> cst.CSTNode:
    """Put the list's element for the tensor's; `rewritten` comes to the subscript first, then to what is around it."""
    match node:
        case cst.Subscript(value=cst.Name(value=base)) if base == name:
            return node.with_changes(value=cst.Name(listed))
        case cst.Call(
            func=cst.Attribute(value=cst.Subscript(value=cst.Name(value=base)) as element, attr=cst.Name("item"))
        ) if base == listed:
            return element
    return node
