"""Sorting everything to take one end costs n log n; `min`, `max` and `heapq` look at each element once.

The same element is taken among equals: sorting is stable, so `[0]` is the first of the least (`min`, and `max` for a
reversed sort) and `[-1]` the last of the greatest, which `max` finds when it reads backwards. `heapq.nsmallest(n, x)`
is `sorted(x)[:n]` by its documentation. Assumes that an end is not taken from nothing where the caller minds the kind
of error (IndexError becomes ValueError; in a `try` or `with`, and where a function names IndexError, it is left alone),
and that a variable `n` in `[:n]` is neither negative nor None. Backwards, `key` is called in another order, so that it
must be known to only answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m
from libcst.helpers import parse_template_expression

from omniperf.agents.arms.pattern.purity import function_answers
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, mentions, replaced, syntax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 20
EXAMPLE_BEFORE = """\
import sys


def ends(words, n):
    shortest = sorted(words, key=len)[0]
    longest = sorted(words, key=len)[-1]
    return shortest, longest, sorted(words)[:n]
"""
EXAMPLE_AFTER = """\
import sys
import heapq


def ends(words, n):
    shortest = min(words, key=len)
    longest = max(reversed(list(words)), key=len)
    return shortest, longest, heapq.nsmallest(n, words)
"""
EXAMPLE_CALLS = ('ends(["bb", "a", "c", "dd"], 2)', 'ends(("b", "a"), 5)', 'ends({"x": 1}, 0)')

_GUARDS = m.OneOf(m.Try(), m.TryStar(), m.With())
_SORTED = m.Subscript(
    value=m.Call(func=m.Name("sorted")), slice=[m.SubscriptElement(slice=m.OneOf(m.Index(), m.Slice()))]
)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each `sorted(...)[0]`, `[-1]` and `[:n]`."""
    if not source.builtin("sorted", "min", "max", "reversed", "list"):
        return
    tree = syntax(function)
    minds_the_error = mentions(tree, "IndexError") or mentions(tree, "LookupError")
    guarded = {found for around in m.findall(function.body, _GUARDS) for found in m.findall(around, _SORTED)}
    for found in m.findall(function.body, _SORTED):
        subscript = cst.ensure_type(found, cst.Subscript)
        call, place = cst.ensure_type(subscript.value, cst.Call), subscript.slice[0].slice
        arguments = _arguments(call)
        if arguments is None:
            continue
        values, key, descending = arguments
        prelude: tuple[str, ...] = ()
        if isinstance(place, cst.Slice):
            count, heapq = _first(place), source.local_name("heapq")
            if count is None or (heapq is None and source.bound["heapq"]) or not _either_order(count, values):
                continue
            prelude = () if heapq else ("import heapq",)
            function_name = f"{heapq or 'heapq'}.{'nlargest' if descending else 'nsmallest'}"
            new = parse_template_expression(f"{function_name}({{n}}, {{values}})", n=count, values=_alone(values))
        elif minds_the_error or subscript in guarded or (end := _end(place)) is None:
            continue
        elif end == 0:
            new = parse_template_expression("max({v})" if descending else "min({v})", v=values)
        elif key is None or function_answers(expression(key.value), source):
            backwards = "min(reversed(list({v})))" if descending else "max(reversed(list({v})))"
            new = parse_template_expression(backwards, v=values)
        else:
            continue
        changed = cst.ensure_type(new, cst.Call)
        if key is not None:
            args = [*changed.args[:-1], changed.args[-1].with_changes(comma=_COMMA), key]
            changed = changed.with_changes(args=args)
        changed = changed.with_changes(lpar=subscript.lpar, rpar=subscript.rpar)
        description = f"`{code(changed)}` for `{code(subscript)}`"
        yield Rewrite(description, replaced(function, subscript, changed), prelude)


_COMMA = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


def _arguments(call: cst.Call) -> tuple[cst.BaseExpression, cst.Arg | None, bool] | None:
    """Return what is sorted, the `key=` argument and the direction; None where the call is not that plain."""
    key, descending = None, False
    if not call.args or call.args[0].keyword or call.args[0].star:
        return None
    for argument in call.args[1:]:
        match argument:
            case cst.Arg(keyword=cst.Name(value="key")):
                key = argument.with_changes(comma=cst.MaybeSentinel.DEFAULT)
            case cst.Arg(keyword=cst.Name(value="reverse"), value=cst.Name(value="True" | "False" as reverse)):
                descending = reverse == "True"
            case _:
                return None
    return call.args[0].value, key, descending


def _alone(values: cst.BaseExpression) -> cst.BaseExpression:
    """Put parentheses around a generator expression that is no longer the only argument."""
    if isinstance(values, cst.GeneratorExp) and not values.lpar:
        return values.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return values


def _either_order(count: cst.BaseExpression, values: cst.BaseExpression) -> bool:
    """Whether making the values leaves the count as it is, which is now looked up first."""
    acting = m.findall(values, m.Call() | m.NamedExpr() | m.Await() | m.Yield())
    return isinstance(count, cst.Integer) or not acting


def _end(place: cst.BaseSlice) -> int | None:
    """Return 0 or -1 where that is the constant index."""
    return {"0": 0, "-1": -1}.get(code(place))


def _first(place: cst.Slice) -> cst.BaseExpression | None:
    """Return n for `[:n]` and `[0:n]`; None for any other slice and where n is a negative or odd constant."""
    if place.step is not None or (place.lower is not None and code(place.lower) != "0"):
        return None
    count = place.upper
    return count if isinstance(count, cst.Integer | cst.Name | cst.Attribute) and code(count) != "None" else None
