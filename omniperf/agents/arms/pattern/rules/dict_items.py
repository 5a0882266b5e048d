"""A loop over a dict's keys that looks each key up again hashes it twice; `items()` hands over both.

The dict stays as it is while the loop runs: the loop only reads it, and either nobody but the function has it, or the
loop calls no code that could change it. It must be known to be a dict, for `d[key]` of something else may mean more.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    bound_names,
    elements,
    private_local,
    replaced,
    scoped_mentions,
    syntax,
    with_element,
)
from omniperf.agents.arms.pattern.uses import kinds, unchanged_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 57
EXAMPLE_BEFORE = """\
def totals(pairs):
    groups = {}
    for name, number in pairs:
        groups[name] = groups.get(name, 0) + number
    lines = []
    for name in groups:
        if groups[name] > 1:
            lines.append((name, groups[name]))
    return lines
"""
EXAMPLE_AFTER = """\
def totals(pairs):
    groups = {}
    for name, number in pairs:
        groups[name] = groups.get(name, 0) + number
    lines = []
    for name, groups_name in groups.items():
        if groups_name > 1:
            lines.append((name, groups_name))
    return lines
"""
EXAMPLE_CALLS = ("totals([('a', 1), ('b', 2), ('a', 3)])", "totals([])")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop over the keys of a dict that it reads at the key."""
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    known = kinds(twin, source)
    for loop in _loops(function):
        name, key = _over_keys(loop) or ("", "")
        if known.get(name) != "dict" or not private_local(function, name) or not private_local(function, key):
            continue
        tree = syntax(loop).body[0]
        found = elements(tree, name, key)
        if not found or not all(isinstance(one.ctx, ast.Load) for one in found) or bound_names(tree)[key] != 1:
            continue
        if scoped_mentions(tree, key) or scoped_mentions(tree, name) or loop.orelse is not None:
            continue
        if not unchanged_in(tree, twin, name, source):
            continue
        value = source.fresh(f"{name}_{key}")
        both = cst.Tuple([cst.Element(cst.Name(key)), cst.Element(cst.Name(value))], lpar=[], rpar=[])
        over = cst.Call(cst.Attribute(cst.Name(name), cst.Name("items")))
        body = with_element(loop.body, name, key, value)
        new = loop.with_changes(target=both, iter=over, body=body)
        yield Rewrite(f"`{name}` gone through by item", replaced(function, loop, new))


def _loops(function: cst.FunctionDef) -> Iterator[cst.For]:
    pending: list[cst.CSTNode] = [function.body]
    while pending:
        node = pending.pop(0)
        if isinstance(node, cst.For) and node.asynchronous is None:
            yield node
        if not isinstance(node, cst.FunctionDef | cst.ClassDef | cst.BaseSmallStatement | cst.BaseExpression):
            pending.extend(node.children)


def _over_keys(loop: cst.For) -> tuple[str, str] | None:
    """Return dict and key of `for key in dict` and `for key in dict.keys()`."""
    match loop:
        case cst.For(target=cst.Name(value=key), iter=cst.Name(value=name)):
            return name, key
        case cst.For(
            target=cst.Name(value=key),
            iter=cst.Call(func=cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value="keys")), args=[]),
        ):
            return name, key
    return None
