"""`if key not in d: d[key] = []` and then `d[key].append(x)` finds the key three times; `setdefault` finds it once.

`d` must be known to be a dict, and the key a plain name or constant. Whether the empty list that is now made each time
costs less than the look-ups is for the benchmark to say.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, code, private_local, syntax, with_body
from omniperf.agents.arms.pattern.uses import kinds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 56
EXAMPLE_BEFORE = """\
def by_length(words):
    groups = {}
    for word in words:
        size = len(word)
        # one list a length
        if size not in groups:
            groups[size] = []
        groups[size].append(word)
    return groups
"""
EXAMPLE_AFTER = """\
def by_length(words):
    groups = {}
    for word in words:
        size = len(word)
        # one list a length
        groups.setdefault(size, []).append(word)
    return groups
"""
EXAMPLE_CALLS = ("by_length(['a', 'bb', 'c'])", "by_length([])")

_FRESH = {"[]", "{}", "set()", "list()", "dict()"}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each key that is looked up, made and looked up again."""
    if not source.builtin("set", "list", "dict"):
        return
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    known = kinds(twin, source)
    for block in blocks(function):
        for index in range(len(block.node.body) - 1):
            asked, used = block.node.body[index : index + 2]
            name, key, value = _made_if_absent(asked) or ("", None, None)
            if key is None or value is None or known.get(name) != "dict" or not private_local(function, name):
                continue
            if new := _with_default(used, name, key, value):
                line = cst.ensure_type(asked, cst.If)
                kept = new.with_changes(leading_lines=[*line.leading_lines, *new.leading_lines])
                body = [*block.node.body[:index], kept, *block.node.body[index + 2 :]]
                yield Rewrite(f"`{name}.setdefault({code(key)}, ...)`", with_body(function, block, body))


def _made_if_absent(statement: cst.BaseStatement) -> tuple[str, cst.BaseExpression, cst.BaseExpression] | None:
    """Return dict, key and value of `if key not in dict: dict[key] = value` where the value is new and empty."""
    match statement:
        case cst.If(
            test=cst.Comparison(
                left=key, comparisons=[cst.ComparisonTarget(operator=cst.NotIn(), comparator=cst.Name(value=name))]
            ),
            body=cst.IndentedBlock(body=[cst.SimpleStatementLine(body=[assigned]) as line]),
            orelse=None,
        ) if isinstance(key, cst.Name | cst.SimpleString | cst.Integer):
            commented = line.leading_lines or line.trailing_whitespace.comment
            match assigned:
                case cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Subscript(value=cst.Name(value=stored), slice=[place]))],
                    value=value,
                ) if stored == name and code(place) == code(key) and code(value) in _FRESH and not commented:
                    return name, key, value
    return None


def _with_default(
    statement: cst.BaseStatement, name: str, key: cst.BaseExpression, value: cst.BaseExpression
) -> cst.SimpleStatementLine | None:
    """Return `dict.setdefault(key, value).method(...)` for `dict[key].method(...)`."""
    match statement:
        case cst.SimpleStatementLine(
            body=[
                cst.Expr(
                    value=cst.Call(
                        func=cst.Attribute(value=cst.Subscript(value=cst.Name(value=read), slice=[place]) as element)
                    )
                )
            ]
        ) if read == name and code(place) == code(key):
            default = cst.parse_expression(f"{name}.setdefault({code(key)}, {code(value)})")
            return cst.ensure_type(statement.deep_replace(element, default), cst.SimpleStatementLine)
    return None
