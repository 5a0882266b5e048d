"""`any([...])` makes every element before it looks at the first; a generator stops where the answer is certain.

The same holds for a list that is bound to a name, only to be gone through by `any` or `all` in the next statement.
Elements after the deciding one are no longer made, so making one must have no effect. It may call functions, whose
result is asked for after all; but not `next`, a method or function named like an action (`append`, `send_all`), nor a
function of the module that assigns to more than its own names. Assumes that the others only answer.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

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
from omniperf.agents.arms.pattern.uses import COMPREHENSIONS, SCOPES, parents, uses

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

_ACTIONS = {
    "acquire", "add", "advance", "append", "apply", "assert", "build", "call", "clear", "close", "commit",
    "consume", "create", "del", "delete", "discard", "do", "drain", "emit", "exec", "execute", "extend", "feed",
    "fill", "flush", "free", "handle", "input", "insert", "kill", "load", "lock", "log", "make", "next",
    "notify", "open", "pop", "popleft", "post", "print", "process", "publish", "push", "put", "read",
    "readline", "recv", "register", "release", "remove", "reset", "rotate", "run", "save", "send", "set",
    "setattr", "setdefault", "shuffle", "signal", "sort", "start", "step", "stop", "store", "submit", "update",
    "visit", "wait", "write",
}  # fmt: skip
_ASKED = m.Call(func=m.Name("any") | m.Name("all"), args=[m.Arg(value=m.ListComp(), keyword=None, star="")])


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each list that only `any` or `all` goes through."""
    if not source.builtin("any", "all"):
        return
    for found in m.findall(function.body, _ASKED):
        call = cst.ensure_type(found, cst.Call)
        listed = cst.ensure_type(call.args[0].value, cst.ListComp)
        if _only_asks(listed, source):
            bare = cst.GeneratorExp(listed.elt, listed.for_in, lpar=[], rpar=[])
            new = call.with_changes(args=[cst.Arg(bare)])
            yield Rewrite(f"`{code(new)}` stops early", replaced(function, call, new))
    for block in blocks(function):
        for index, statement in enumerate(block.node.body[:-1]):
            name, value = binding(statement) or ("", None)
            if not isinstance(value, cst.ListComp) or not private_local(function, name):
                continue
            if mentions(syntax(function), name) != 2 or not _gone_through_once(block.node.body[index + 1], name):
                continue
            if _only_asks(value, source):
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


def _only_asks(listed: cst.ListComp, source: Source) -> bool:
    """Whether making an element has no effect, as far as its syntax and the module's own functions say."""
    for node in ast.walk(expression(listed)):
        match node:
            case ast.NamedExpr() | ast.Await() | ast.Yield() | ast.YieldFrom() | ast.comprehension(is_async=1):
                return False
            case ast.Call(func=ast.Name(id=name)):
                if _acts(name) or not all(_answers(twin) for twin in _defined(source, name)):
                    return False
            case ast.Call(func=ast.Attribute(attr=name)):
                if _acts(name):
                    return False
            case ast.Call():
                return False
    return True


def _acts(name: str) -> bool:
    return not _ACTIONS.isdisjoint(name.lower().strip("_").split("_"))


def _defined(source: Source, name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            yield node


def _answers(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function assigns to nothing but its own names and calls nothing for its effect alone."""
    for node in ast.walk(function):
        match node:
            case ast.Global() | ast.Nonlocal() | ast.Await() | ast.Yield() | ast.YieldFrom() | ast.With():
                return False
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                return False
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr():
                return False
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if _acts(name):
                return False
    return True
