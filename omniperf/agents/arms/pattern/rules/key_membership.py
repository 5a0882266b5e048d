"""`key in list(d)` writes all keys out to look for one; `key in d` looks once. `d.keys()` saves a call.

`d` must be known to be a dict (made as one here, or a parameter annotated so): elsewhere `in` may ask something else.
Assumes that what is looked for is hashable, as in every question to a dict.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, private_local, replaced, syntax
from omniperf.agents.arms.pattern.uses import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 22
EXAMPLE_BEFORE = """\
def known(words, index: dict):
    seen = dict(index)
    for word in words:
        if word not in list(seen.keys()):
            seen[word] = word in index.keys()
    return seen
"""
EXAMPLE_AFTER = """\
def known(words, index: dict):
    seen = dict(index)
    for word in words:
        if word not in seen:
            seen[word] = word in index
    return seen
"""
EXAMPLE_CALLS = ("known(['a', 'b', 'a'], {'b': 1})", "known([], {})")

_COPIES = m.Name("list") | m.Name("tuple") | m.Name("set") | m.Name("frozenset")
_KEYS = m.Call(func=m.Attribute(value=m.Name(), attr=m.Name("keys")), args=[])
_ALL_KEYS = _KEYS | m.Call(func=_COPIES, args=[m.Arg(value=_KEYS | m.Name(), keyword=None, star="")])
_ASKED = m.ComparisonTarget(operator=m.In() | m.NotIn(), comparator=_ALL_KEYS)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each question to all keys."""
    if not source.builtin("list", "tuple", "set", "frozenset"):
        return
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    known = kinds(twin, source)
    for found in m.findall(function.body, m.Comparison()):
        target = cst.ensure_type(found, cst.Comparison).comparisons[-1]  # another's keys are compared with what follows
        if not m.matches(target, _ASKED):
            continue
        inner = target.comparator
        while isinstance(inner, cst.Call):
            inner = inner.func.value if isinstance(inner.func, cst.Attribute) else inner.args[0].value
        name = cst.ensure_type(inner, cst.Name).value
        if known.get(name) == "dict" and private_local(function, name):
            new = target.with_changes(comparator=inner)
            description = f"`in {name}` for `in {code(target.comparator)}`"
            yield Rewrite(description, replaced(function, target, new))
