"""A membership test against a list or tuple of constants compares one by one; against a set it hashes once.

Assumes that what is looked for is hashable and that its equality agrees with its hash: `[] in [1, 2, 3]` is False, but
`[] in {1, 2, 3}` raises TypeError. The tests and the comparison of outputs decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 50
EXAMPLE_BEFORE = """\
def vowels(text):
    return [c for c in text if c.lower() in ["a", "e", "i", "o", "u"]]
"""
EXAMPLE_AFTER = """\
def vowels(text):
    return [c for c in text if c.lower() in {"a", "e", "i", "o", "u"}]
"""
EXAMPLE_CALLS = ('vowels("Hello, world")', 'vowels("")')

FEWEST = 3  # below, comparing is as fast as hashing
_UNHASHABLE = (cst.List, cst.Set, cst.Dict, cst.ListComp, cst.SetComp, cst.DictComp)


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:  # noqa: ARG001 - a rule's signature
    """Yield one rewrite for each comparison with a list or tuple of constants."""
    for found in m.findall(function.body, m.Comparison()):
        comparison = cst.ensure_type(found, cst.Comparison)
        target = _as_set(comparison.comparisons[-1])  # another one's list is compared with what follows, too
        if target and not isinstance(comparison.left, _UNHASHABLE):
            new = comparison.with_changes(comparisons=[*comparison.comparisons[:-1], target])
            yield Rewrite(f"a set in `{code(new)}`", replaced(function, comparison, new))


def _as_set(target: cst.ComparisonTarget) -> cst.ComparisonTarget | None:
    listed = target.comparator
    if not isinstance(target.operator, cst.In | cst.NotIn) or not isinstance(listed, cst.List | cst.Tuple):
        return None
    if len(listed.elements) < FEWEST or not all(_constant(element) for element in listed.elements):
        return None
    if isinstance(listed, cst.List):
        left, right = listed.lbracket.whitespace_after, listed.rbracket.whitespace_before
        outer_left, outer_right = listed.lpar, listed.rpar
    elif listed.lpar:
        left, right = listed.lpar[-1].whitespace_after, listed.rpar[0].whitespace_before
        outer_left, outer_right = listed.lpar[:-1], listed.rpar[1:]
    else:
        return None
    members = cst.Set(
        listed.elements,
        lbrace=cst.LeftCurlyBrace(whitespace_after=left),
        rbrace=cst.RightCurlyBrace(whitespace_before=right),
        lpar=outer_left,
        rpar=outer_right,
    )
    return target.with_changes(comparator=members)


def _constant(element: cst.BaseElement) -> bool:
    if not isinstance(element, cst.Element):
        return False
    value = element.value
    if isinstance(value, cst.UnaryOperation) and isinstance(value.operator, cst.Minus):
        value = value.expression
    if isinstance(value, cst.Tuple):
        return all(_constant(inner) for inner in value.elements)
    if isinstance(value, cst.Name):
        return value.value in {"None", "True", "False"}
    if isinstance(value, cst.ConcatenatedString):
        return value.evaluated_value is not None
    return isinstance(value, cst.SimpleString | cst.Integer | cst.Float | cst.Imaginary)
