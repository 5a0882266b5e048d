"""Asking a list or tuple in each turn of a loop whether it has an element goes through it each time; ask a set.

The list must stay as it is while the loop runs: the loop only reads it, and either nobody but the function has it, or
the loop calls no code that could change it. Assumes that the elements are hashable and that their equality agrees with
their hash; the tests and the comparison of outputs decide. Making the set must pay, which only the benchmark shows.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, bound_names, flat, private_local, rewritten, syntax, with_body
from omniperf.agents.arms.pattern.uses import COMPREHENSIONS, LOOPS, Function, kinds, unchanged_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 12
EXAMPLE_BEFORE = """\
def common(left: list, words):
    wanted = sorted(words)
    kept = []
    for word in left:
        if word in wanted:
            kept.append(word)
    return kept, [word for word in wanted if word not in left]
"""
EXAMPLE_AFTER = """\
def common(left: list, words):
    wanted = sorted(words)
    kept = []
    wanted_set = set(wanted)
    for word in left:
        if word in wanted_set:
            kept.append(word)
    left_set = set(left)
    return kept, [word for word in wanted if word not in left_set]
"""
EXAMPLE_CALLS = ("common(['b', 'a', 'x'], {'a', 'b', 'c'})", "common([], 'ab')", "common(['a'], '')")

FEWEST = 4  # below, comparing is as fast as hashing


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each loop or comprehension and each list that it asks and leaves as it is."""
    if not source.builtin("set"):
        return
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    short = _short(twin)
    listed = [name for name, kind in kinds(twin, source).items() if kind in {"list", "tuple"} and name not in short]
    for block in blocks(function):
        for index, statement in enumerate(block.node.body):
            if not isinstance(statement, cst.For | cst.While | cst.SimpleStatementLine):
                continue
            if len(syntax(statement).body) != 1:  # `a; b`: what one part leaves alone, the other may change
                continue
            tree = syntax(statement).body[0]
            for name in listed:
                if not _asked_in_turns(tree, name) or not private_local(function, name):
                    continue
                if not _bound_before(twin, (*block.before, *block.node.body[:index]), name):
                    continue
                if unchanged_in(tree, twin, name, source):
                    beside = source.fresh(f"{name}_set")
                    body = [
                        *block.node.body[:index],
                        *_with_set(statement, name, beside),
                        *block.node.body[index + 1 :],
                    ]
                    yield Rewrite(f"a set of `{name}` asked", with_body(function, block, body))


def _bound_before(function: Function, before: tuple[cst.BaseStatement, ...], name: str) -> bool:
    """Whether a name is bound whatever way was taken: a parameter, or bound by a statement of a block around."""
    given = function.args
    if any(name == parameter.arg for parameter in (*given.posonlyargs, *given.args, *given.kwonlyargs)):
        return True
    pending: list[ast.stmt] = [one for statement in before for one in syntax(statement).body]
    while pending:
        one = pending.pop()
        if isinstance(one, ast.Assign | ast.AnnAssign) and bound_names(one)[name]:
            return True
        if isinstance(one, ast.With):
            pending.extend(one.body)
    return False


def _with_set(statement: cst.BaseStatement, name: str, beside: str) -> tuple[cst.BaseStatement, ...]:
    """Return the making of the set and the statement that asks it; comments and blank lines go first."""
    asked = flat(rewritten(statement, lambda node: _asking(node, name, beside)))
    made = cst.ensure_type(cst.parse_statement(f"{beside} = set({name})"), cst.SimpleStatementLine)
    made = made.with_changes(leading_lines=getattr(statement, "leading_lines", ()))
    return (made, asked[0].with_changes(leading_lines=()), *asked[1:])


def _short(function: Function) -> set[str]:
    """Return the names that are bound to a list or tuple which is written out and too short for a set to pay."""
    found = set()
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.List(elts=parts) | ast.Tuple(elts=parts)):
                if 0 < len(parts) < FEWEST:
                    found.add(name)
    return found


def _asked_in_turns(tree: ast.AST, name: str) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, LOOPS):
            parts: list[ast.AST] = [*node.body, *([node.test] if isinstance(node, ast.While) else [])]
        elif isinstance(node, COMPREHENSIONS):
            parts = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.comprehension)]
            parts += [test for generator in node.generators for test in generator.ifs]
        else:
            continue
        if any(_asks(inner, name) for part in parts for inner in ast.walk(part)):
            return True
    return False


def _asks(node: ast.AST, name: str) -> bool:
    match node:
        case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[ast.Name(id=asked)]):
            return asked == name
    return False


def _asking(node: cst.CSTNode, name: str, beside: str) -> cst.CSTNode:
    match node:
        case cst.Comparison(
            comparisons=[
                cst.ComparisonTarget(operator=cst.In() | cst.NotIn(), comparator=cst.Name(value=asked)) as target
            ]
        ) if asked == name:
            return node.with_changes(comparisons=[target.with_changes(comparator=cst.Name(beside))])
    return node
