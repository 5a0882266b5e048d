"""`any([...])` makes every element before it looks at the first; a generator stops where the answer is certain.

The same holds for a list that is bound to a name, only to be gone through by `any` or `all` in the next statement.
Elements after the deciding one are no longer made, so making one must have no effect: `purity` says what is believed.
Nor may it be an error that somebody catches, so whatever stands in a `try` or `with` stays; that no caller catches one
is assumed, and that what is gone through is no iterator that others read on.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.purity import answers
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import (
    binding,
    blocks,
    code,
    expression,
    mentions,
    private_local,
    replaced,
    syntax,
    with_body,
)
from omniperf.agents.arms.pattern.uses import COMPREHENSIONS, LOOPS, SCOPES, made, parents, used_up, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 18
EXAMPLE_BEFORE = """\
def settled(rounds, limit):
    if any([sum(scores) > limit for scores in rounds]):
        return True
    best = [max(scores) for scores in rounds if scores]
    return all(score == limit for score in best)
"""
EXAMPLE_AFTER = """\
def settled(rounds, limit):
    if any(sum(scores) > limit for scores in rounds):
        return True
    best = (max(scores) for scores in rounds if scores)
    return all(score == limit for score in best)
"""
EXAMPLE_CALLS = ("settled([[1, 2], [3]], 2)", "settled([[1], []], 1)", "settled([], 1)")

_GUARDS = m.OneOf(m.Try(), m.TryStar(), m.With())
_ONE_PASS = re.compile(r"Iterator|Generator|IO\b")
_ASKED = m.Call(func=m.Name("any") | m.Name("all"), args=[m.Arg(value=m.ListComp(), keyword=None, star="")])


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each list that only `any` or `all` goes through."""
    if not source.builtin("any", "all"):
        return
    guarded = {call for around in m.findall(function.body, _GUARDS) for call in m.findall(around, _ASKED)}
    for found in m.findall(function.body, _ASKED):
        call = cst.ensure_type(found, cst.Call)
        listed = cst.ensure_type(call.args[0].value, cst.ListComp)
        if call not in guarded and _only_asks(listed, function, source):
            bare = cst.GeneratorExp(listed.elt, listed.for_in, lpar=[], rpar=[])
            new = call.with_changes(args=[cst.Arg(bare)])
            yield Rewrite(f"`{code(new)}` stops early", replaced(function, call, new))
    for block in blocks(function):
        if any(isinstance(around, cst.Try | cst.TryStar | cst.With) for around in block.enclosing):
            continue
        for index, statement in enumerate(block.node.body[:-1]):
            name, value = binding(statement) or ("", None)
            if not isinstance(value, cst.ListComp) or not private_local(function, name):
                continue
            asking = block.node.body[index + 1]
            if mentions(syntax(function), name) != 2 or not _gone_through_once(asking, name):
                continue
            if not answers(syntax(asking), source) or _made_later(expression(value), source):
                continue
            if _only_asks(value, function, source):
                lazy = cst.GeneratorExp(value.elt, value.for_in, lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
                new_statement = cst.ensure_type(statement.deep_replace(value, lazy), cst.SimpleStatementLine)
                body = [*block.node.body[:index], new_statement, *block.node.body[index + 1 :]]
                yield Rewrite(f"`{name}` made as far as it is asked", with_body(function, block, body))


def _gone_through_once(statement: cst.BaseStatement, name: str) -> bool:
    """Whether a simple statement hands the list to `any` or `all`, itself or as what their generator goes through."""
    if not isinstance(statement, cst.SimpleStatementLine):
        return False
    tree = syntax(statement)
    above = parents(tree)
    found = uses(tree, name)
    if len(found) != 1:
        return False
    asked: ast.AST = found[0]
    match above[asked]:
        case ast.comprehension(iter=iterated) as inner if iterated is asked and not inner.is_async:
            generator = above[inner]
            if not isinstance(generator, ast.GeneratorExp) or generator.generators[0] is not inner:
                return False
            asked = generator
    call = above[asked]
    match call:
        case ast.Call(func=ast.Name(id="any" | "all"), args=[argument], keywords=[]) if argument is asked:
            pass
        case _:
            return False
    around: ast.AST | None = call
    while around is not None:
        if isinstance(around, (*SCOPES, *COMPREHENSIONS)):
            return False  # it would be gone through again and again
        around = above.get(around)
    return True


def _only_asks(listed: cst.ListComp, function: cst.FunctionDef, source: Source) -> bool:
    """Whether making an element has no effect, and what the elements are made of is nobody's to read on."""
    tree = expression(listed)
    return answers(tree, source) and not _reads_on(tree, syntax(function), source)


def _reads_on(listed: ast.expr, function: ast.Module, source: Source) -> bool:
    """Whether the elements are taken from an iterator of the function's, which would be left half used."""
    above = parents(listed)
    for node in ast.walk(listed):
        if isinstance(node, ast.Name) and _gone_through(node, above.get(node)) and _iterator(node.id, function, source):
            return True
    return False


def _gone_through(use: ast.Name, parent: ast.AST | None) -> bool:
    match parent:
        case ast.comprehension(iter=iterated):
            return iterated is use
        case ast.Call(args=arguments):
            return use in arguments
        case ast.Compare(ops=operators):
            return any(isinstance(operator, ast.In | ast.NotIn) for operator in operators)
    return False


def _iterator(name: str, function: ast.Module, source: Source) -> bool:
    """Whether a name may be an iterator that is read elsewhere too: by its annotation or making, or its `next`."""
    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id="next" | "iter"), args=[ast.Name(id=asked), *_]) if asked == name:
                return True
            case ast.arg(arg=given, annotation=ast.expr() as annotation) if given == name:
                return _ONE_PASS.search(ast.unparse(annotation)) is not None
            case ast.Assign(targets=[ast.Name(id=bound)], value=ast.Call() | ast.GeneratorExp() as value):
                if bound == name and made(value, source) is None and not _read_once(name, function):
                    return True
    return False


def _read_once(name: str, function: ast.Module) -> bool:
    """Whether a name is bound once and read once, in the same turn of any loop."""
    above = parents(function)
    found = uses(function, name)
    return len(found) == 2 and _loops(found[0], above) == _loops(found[1], above)


def _loops(node: ast.AST, above: dict[ast.AST, ast.AST]) -> list[ast.AST]:
    around = above.get(node)
    return [] if around is None else [*([around] if isinstance(around, LOOPS) else []), *_loops(around, above)]


def _made_later(listed: ast.expr, source: Source) -> bool:
    """Whether an element looks at the loop's variable after it was made: all of a list's would see the last value."""
    above = parents(listed)
    return any(
        isinstance(node, ast.Lambda) or (isinstance(node, ast.GeneratorExp) and not used_up(node, above, source))
        for node in ast.walk(listed)
    )
