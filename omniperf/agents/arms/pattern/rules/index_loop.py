"""`for i in range(len(xs))` with `xs[i]` in its body looks every element up; going through `xs` hands it over.

What is gone through is a list, tuple or str, stays as it is while the loop runs, and is only read at `i`; `i` itself
is a local that the loop alone binds. Nested functions that see either disqualify, for they look later.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    bound_names,
    elements,
    mentions,
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

RANK = 58
EXAMPLE_BEFORE = """\
def weighted(values):
    numbers = list(values)
    total = 0
    for i in range(len(numbers)):
        total += numbers[i] * i
    for j in range(len(numbers)):
        if numbers[j] > 2:
            total -= numbers[j]
    return total
"""
EXAMPLE_AFTER = """\
def weighted(values):
    numbers = list(values)
    total = 0
    for i, numbers_i in enumerate(numbers):
        total += numbers_i * i
    for numbers_j in numbers:
        if numbers_j > 2:
            total -= numbers_j
    return total
"""
EXAMPLE_CALLS = ("weighted([1, 2, 3, 4])", "weighted(())")

_OVER_LENGTH = m.For(
    target=m.Name(),
    iter=m.Call(
        func=m.Name("range"),
        args=[m.Arg(value=m.Call(func=m.Name("len"), args=[m.Arg(value=m.Name())]), keyword=None, star="")],
    ),
    asynchronous=None,
)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop over the indices of what it reads."""
    if not source.builtin("range", "len", "enumerate"):
        return
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    known = kinds(twin, source)
    for found in m.findall(function.body, _OVER_LENGTH):
        loop = cst.ensure_type(found, cst.For)
        index = cst.ensure_type(loop.target, cst.Name).value
        counted = cst.ensure_type(cst.ensure_type(loop.iter, cst.Call).args[0].value, cst.Call)
        name = cst.ensure_type(counted.args[0].value, cst.Name).value
        if known.get(name) not in {"list", "tuple", "str"}:
            continue
        if not private_local(function, name) or not private_local(function, index):
            continue
        if not _only_looks(loop, index, name) or not unchanged_in(syntax(loop).body[0], twin, name, source):
            continue
        element = source.fresh(f"{name}_{index}")
        body = with_element(loop.body, name, index, element)
        still = mentions(twin, index) - 1 - len(elements(syntax(loop), name, index))
        if still:
            target: cst.BaseExpression = cst.Tuple(
                [cst.Element(cst.Name(index)), cst.Element(cst.Name(element))], lpar=[], rpar=[]
            )
            over: cst.BaseExpression = cst.Call(cst.Name("enumerate"), [cst.Arg(cst.Name(name))])
        else:
            target, over = cst.Name(element), cst.Name(name)
        new = loop.with_changes(target=target, iter=over, body=body)
        yield Rewrite(f"`{name}` gone through by element", replaced(function, loop, new))


def _only_looks(loop: cst.For, index: str, name: str) -> bool:
    """Whether the loop reads elements at its index, stores none, and binds the index once."""
    tree = syntax(loop).body[0]
    found = elements(tree, name, index)
    if not found or not all(isinstance(one.ctx, ast.Load) for one in found) or bound_names(tree)[index] != 1:
        return False
    if loop.orelse is not None:
        return False
    return not scoped_mentions(tree, index) and not scoped_mentions(tree, name)
