"""`s[i:].startswith(x)` copies the rest of the text to look at its beginning; `s.startswith(x, i)` looks in place.

So it is with `endswith`, with `find` where only found or not found is asked, and with `find` and `rfind` in `s[:j]`,
whose places stay the same. Assumes that what is cut is a text (str or bytes), and that an empty `x` is not looked for
beyond its end, the one case in which the two differ. The bounds and `x` must be plain, for they change places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.uses import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 16
EXAMPLE_BEFORE = """\
def marked(text, marks):
    found = []
    for i in range(len(text)):
        for mark in marks:
            if text[i:].startswith(mark) and text[i + 1 :].find("x") != -1:
                found.append((i, text[:i].rfind(mark)))
    return found
"""
EXAMPLE_AFTER = """\
def marked(text, marks):
    found = []
    for i in range(len(text)):
        for mark in marks:
            if text.startswith(mark, i) and text.find("x", i + 1) != -1:
                found.append((i, text.rfind(mark, 0, i)))
    return found
"""
EXAMPLE_CALLS = ("marked('abcabxab', ['ab', 'b'])", "marked('', ['a'])", "marked('aaxa', ('a',))")

_ANYWHERE = {"startswith", "endswith"}  # the answer has no place in it
_FROM_THE_START = _ANYWHERE | {"find", "rfind"}
_CUT = m.Subscript(slice=[m.SubscriptElement(slice=m.Slice(step=None))])
_CALL = m.Call(
    func=m.Attribute(value=_CUT, attr=m.OneOf(*(m.Name(name) for name in sorted(_FROM_THE_START)))),
    args=[m.Arg(keyword=None, star="")],
)
_NOWHERE = {("==", "-1"), ("!=", "-1"), ("<", "0"), (">=", "0"), (">", "-1")}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:  # noqa: ARG001 - a rule's signature
    """Yield one rewrite for each search in a slice."""
    asked = {comparison.left for comparison in _comparisons(function) if _only_whether(comparison)}
    for found in m.findall(function.body, _CALL):
        call = cst.ensure_type(found, cst.Call)
        method = cst.ensure_type(call.func, cst.Attribute)
        cut = cst.ensure_type(method.value, cst.Subscript)
        place = cst.ensure_type(cut.slice[0].slice, cst.Slice)
        if method.attr.value not in (_FROM_THE_START if place.lower is None else _ANYWHERE) and call not in asked:
            continue
        if place.lower is None and place.upper is None:
            continue
        if method.attr.value == "rfind" and place.lower is not None:
            continue
        needle = call.args[0].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        if not all(plain(expression(part)) for part in (needle.value, place.lower, place.upper) if part is not None):
            continue
        bounds = [cst.Arg(place.lower or cst.Integer("0")), *([cst.Arg(place.upper)] if place.upper else [])]
        new = call.with_changes(func=method.with_changes(value=cut.value), args=[needle, *bounds])
        yield Rewrite(f"`{code(new)}` for `{code(call)}`", replaced(function, call, new))


def _comparisons(function: cst.FunctionDef) -> Iterator[cst.Comparison]:
    for found in m.findall(function.body, m.Comparison()):
        yield cst.ensure_type(found, cst.Comparison)


def _only_whether(comparison: cst.Comparison) -> bool:
    """Whether a place is compared so that only found or not found counts."""
    if len(comparison.comparisons) != 1:
        return False
    target = comparison.comparisons[0]
    return (code(target.operator).strip(), code(target.comparator)) in _NOWHERE
