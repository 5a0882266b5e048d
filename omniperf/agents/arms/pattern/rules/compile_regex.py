"""A constant pattern handed to `re.match` and the like is looked up in re's cache at each call; compile it once.

Assumes that nobody replaces `re` at run time. A pattern that does not compile is left where it is, so that its error
stays where it was; f-strings, variables and flags that are no constants of `re` disqualify.
"""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code, replaced

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 40
EXAMPLE_BEFORE = '''\
"""Tokens."""
import re
import sys


def tokenize(lines):
    found = []
    for line in lines:
        if re.match(r"\\s*#", line):
            continue
        found += re.findall("[a-z]+", line, flags=re.I | re.ASCII)
    return found
'''
EXAMPLE_AFTER = '''\
"""Tokens."""
import re
import sys

_TOKENIZE_RE = re.compile(r"\\s*#")
_TOKENIZE_RE_2 = re.compile("[a-z]+", re.I | re.ASCII)


def tokenize(lines):
    found = []
    for line in lines:
        if _TOKENIZE_RE.match(line):
            continue
        found += _TOKENIZE_RE_2.findall(line)
    return found
'''
EXAMPLE_CALLS = ('tokenize(["# no", "One two 3", " # no", "x"])', "tokenize([])")

# Where the flags stand among the positional arguments of re's functions.
_FLAGS_AT = {
    "compile": 1, "match": 2, "fullmatch": 2, "search": 2, "findall": 2, "finditer": 2, "split": 3, "sub": 4, "subn": 4,
}  # fmt: skip


@dataclass(frozen=True)
class _Use:
    """A call of one of re's functions with a constant pattern, and the arguments that are left without it."""

    function: str
    pattern: cst.BaseExpression
    flags: cst.BaseExpression | None
    rest: tuple[cst.Arg, ...]


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each call of re with a constant pattern."""
    if source.bound["*"]:
        return
    for found in m.findall(function.body, m.Call()):
        call = cst.ensure_type(found, cst.Call)
        name = _function_of_re(call.func, source)
        use = _use(name, call) if name else None
        if use is None or not _compiles(use, source):
            continue
        prelude, constant = _constant(use, function, source)
        new: cst.BaseExpression = cst.Name(constant, lpar=call.lpar, rpar=call.rpar)
        if use.function != "compile":
            method = cst.Attribute(cst.Name(constant), cst.Name(use.function))
            new = call.with_changes(func=method, args=use.rest)
        yield Rewrite(f"`{code(call)}` compiled once", replaced(function, call, new), prelude)


def _function_of_re(called: cst.BaseExpression, source: Source) -> str | None:
    match called:
        case cst.Attribute(value=cst.Name(value=base), attr=cst.Name(value=name)) if source.modules.get(base) == "re":
            return name if name in _FLAGS_AT else None
        case cst.Name(value=local):
            module, name = source.members.get(local, ("", ""))
            return name if module == "re" and name in _FLAGS_AT else None
    return None


def _use(function: str, call: cst.Call) -> _Use | None:
    """Take pattern and flags out of a call; None where an argument is starred or the pattern no literal."""
    pattern: cst.BaseExpression | None = None
    flags: cst.BaseExpression | None = None
    rest: list[cst.Arg] = []
    for position, argument in enumerate(call.args):
        keyword = argument.keyword.value if argument.keyword else None
        if argument.star:
            return None
        if keyword == "pattern" or (keyword is None and position == 0):
            pattern = argument.value
        elif keyword == "flags" or (keyword is None and position == _FLAGS_AT[function]):
            flags = argument.value
        else:
            rest.append(argument)
    if rest:
        rest[-1] = rest[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    if isinstance(pattern, cst.SimpleString | cst.ConcatenatedString) and pattern.evaluated_value is not None:
        return _Use(function, pattern, flags, tuple(rest))
    return None


def _compiles(use: _Use, source: Source) -> bool:
    """Whether the flags are constants of re and the pattern is right under them."""
    try:
        flags = 0 if use.flags is None else _flag_value(ast.parse(code(use.flags), mode="eval").body, source)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what would warn at each call must not warn at import instead
            re.compile(ast.literal_eval(code(use.pattern)), flags)
    except (ValueError, SyntaxError, re.error, Warning, OverflowError, RecursionError):
        return False
    return not flags & re.DEBUG


def _flag_value(node: ast.expr, source: Source) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.Attribute(value=ast.Name(id=base), attr=name) if source.modules.get(base) == "re":
            pass
        case ast.Name(id=local) if source.members.get(local, ("",))[0] == "re":
            name = source.members[local][1]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _flag_value(left, source) | _flag_value(right, source)
        case _:
            raise ValueError("not a constant of re")
    flag = getattr(re, name, None)
    if not isinstance(flag, re.RegexFlag):
        raise ValueError("not a flag of re")
    return int(flag)


def _constant(use: _Use, function: cst.FunctionDef, source: Source) -> tuple[tuple[str, ...], str]:
    """Return the statements that the module needs and the constant's name; equal patterns share one constant."""
    compiler, prelude = _compiler(source)
    arguments = ", ".join(code(part) for part in (use.pattern, use.flags) if part is not None)
    value = f"{compiler}({arguments})"
    for statement in source.prelude:
        name, _, existing = statement.partition(" = ")
        if existing == value:
            return (*prelude, statement), name
    name = source.fresh(f"_{function.name.value.strip('_').upper()}_RE")
    return (*prelude, f"{name} = {value}"), name


def _compiler(source: Source) -> tuple[str, tuple[str, ...]]:
    """Return how `re.compile` is spelled in this module, and the import it still needs."""
    for local, origin in source.members.items():
        if origin == ("re", "compile"):
            return local, ()
    if local_name := source.local_name("re"):
        return f"{local_name}.compile", ()
    added = next((line for line in source.prelude if line.startswith("import re")), None)
    if added is None:
        added = f"import re as {source.fresh('_re')}" if source.bound["re"] else "import re"
    return f"{added.split()[-1]}.compile", (added,)
