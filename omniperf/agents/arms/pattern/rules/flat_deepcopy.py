"""`copy.deepcopy` of a list or dict that holds nothing but constants walks it in Python; its own `copy` does not.

The container is written out in this module or function, bound once, and holds only constants; the module never does
more with it than read it or copy it. Assumes that no other module puts something changeable into it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, expression, replaced
from omniperf.agents.arms.pattern.uses import made, origin, parents, reads, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 24
EXAMPLE_BEFORE = """\
import copy

_START = {"state": "new", "size": 0, "tags": ("a", 1)}


def made(count):
    found = []
    for number in range(count):
        one = copy.deepcopy(_START)
        one["size"] = number
        found.append(one)
    return found
"""
EXAMPLE_AFTER = """\
import copy

_START = {"state": "new", "size": 0, "tags": ("a", 1)}


def made(count):
    found = []
    for number in range(count):
        one = _START.copy()
        one["size"] = number
        found.append(one)
    return found
"""
EXAMPLE_CALLS = ("made(3)", "(made(1), _START)")


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each deep copy of something flat."""
    for found in m.findall(function.body, m.Call(args=[m.Arg(value=m.Name(), keyword=None, star="")])):
        call = cst.ensure_type(found, cst.Call)
        called = expression(call.func)
        name = cst.ensure_type(call.args[0].value, cst.Name)
        if origin(called, source) == ("copy", "deepcopy") and _flat(name.value, source):
            copied = cst.Call(cst.Attribute(cst.Name(name.value), cst.Name("copy")), lpar=call.lpar, rpar=call.rpar)
            yield Rewrite(f"`{code(copied)}` for `{code(call)}`", replaced(function, call, copied))


def _flat(name: str, source: Source) -> bool:
    """Whether a name means one list, dict or set of constants, which the module reads and copies and nothing else."""
    above = parents(source.tree)
    values = []
    for use in uses(source.tree, name):
        parent = above[use]
        match parent:
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                if target is not use:
                    return False
                values.append(value)
            case ast.Call(func=called, args=[_], keywords=[]) if origin(called, source) == ("copy", "deepcopy"):
                pass
            case _ if not reads(use, above, source):
                return False
    if (
        source.bound[name] != 1
        or source.bound["*"]
        or len(values) != 1
        or made(values[0], source) not in {"list", "dict", "set"}
    ):
        return False
    match values[0]:
        case ast.List(elts=parts) | ast.Set(elts=parts):
            return all(_constant(part) for part in parts)
        case ast.Dict(keys=keys, values=held):
            return all(_constant(part) for part in (*keys, *held))
    return False


def _constant(part: ast.expr | None) -> bool:
    match part:
        case ast.Constant() | ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
            return True
        case ast.Tuple(elts=parts):
            return all(_constant(inner) for inner in parts)
    return False
