"""What a function does with a name: of which built-in type it is, who else can reach it, and what changes it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from omniperf.agents.arms.pattern.syntax import bound_names, mentions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

Function = ast.FunctionDef | ast.AsyncFunctionDef

LOOPS = (ast.For, ast.AsyncFor, ast.While)
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

# Built-ins that are done with their first argument when they return.
READERS = {
    "all", "any", "frozenset", "len", "list", "max", "min", "print", "repr", "set", "sorted", "str", "sum", "tuple",
}  # fmt: skip
# Built-ins that read their arguments later, when somebody goes through what they return.
_LAZY = {"enumerate", "filter", "map", "reversed", "zip"}
# Built-ins that run no code but that of the values they are given.
PURE = (READERS - {"print"}) | (_LAZY - {"filter", "map"}) | {
    "abs", "bool", "bytes", "chr", "dict", "divmod", "float", "hash", "id", "int", "isinstance", "ord", "pow", "range",
    "round", "type",
}  # fmt: skip
_READING_METHODS = {"copy", "count", "get", "index", "items", "keys", "values"}
_CHANGING_METHODS = {
    "add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault",
    "sort", "update",
}  # fmt: skip
_MAKERS = {"list": "list", "sorted": "list", "dict": "dict", "set": "set", "tuple": "tuple", "str": "str"}
_DICTS = ("defaultdict", "Counter", "OrderedDict")
_ANNOTATIONS = {"List": "list", "Dict": "dict", "Tuple": "tuple", "Set": "set", "DefaultDict": "dict"}


def kinds(function: Function, source: Source) -> dict[str, str]:
    """Return the names that are a `list`, `dict`, `set`, `tuple` or `str` wherever the function binds them.

    Annotations of parameters are believed. A dict may be one of `collections`' kinds.
    """
    bindings = bound_names(function)
    known: dict[str, list[str | None]] = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                known.setdefault(name, []).append(made(value, source))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                known.setdefault(name, []).append(made(value, source))
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add()):
                bindings[name] -= 1  # a list stays a list, a str a str
    for argument, kind in _annotated(function, source):
        known.setdefault(argument, []).append(kind)
    return {
        name: found[0]
        for name, found in known.items()
        if found[0] and len(set(found)) == 1 and len(found) == bindings[name]
    }


def made(value: ast.expr, source: Source) -> str | None:
    """Return the built-in type of what an expression makes anew; None where that is not certain."""
    match value:
        case ast.List() | ast.ListComp() | ast.BinOp(left=ast.List(), op=ast.Mult()):
            return "list"
        case ast.Dict() | ast.DictComp():
            return "dict"
        case ast.Set() | ast.SetComp():
            return "set"
        case ast.Tuple():
            return "tuple"
        case ast.Constant(value=str()) | ast.JoinedStr():
            return "str"
        case ast.Call(func=ast.Name(id=name)) if name in _MAKERS and source.builtin(name):
            return _MAKERS[name]
        case ast.Call(func=called):
            return "dict" if origin(called, source) in {("collections", kind) for kind in _DICTS} else None
    return None


def origin(called: ast.expr, source: Source) -> tuple[str, str] | None:
    """Return module and name of what an expression like `deque` or `collections.deque` means by the imports."""
    match called:
        case ast.Name(id=name):
            return source.members.get(name)
        case ast.Attribute(value=ast.Name(id=base), attr=name) if base in source.modules:
            return source.modules[base], name
    return None


def _annotated(function: Function, source: Source) -> Iterator[tuple[str, str]]:
    """Yield the parameters whose annotation names a built-in type and that have no default, such as None."""
    given = function.args
    positional = [*given.posonlyargs, *given.args]
    without = [*positional[: len(positional) - len(given.defaults)]]
    without += [arg for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    for arg in without:
        named = arg.annotation.value if isinstance(arg.annotation, ast.Subscript) else arg.annotation
        match named:
            case ast.Name(id=name) if name in set(_MAKERS.values()) and source.builtin(name):
                yield arg.arg, name
            case ast.Name() | ast.Attribute() if (found := origin(named, source)) and found[0] == "typing":
                if found[1] in _ANNOTATIONS:
                    yield arg.arg, _ANNOTATIONS[found[1]]


def parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """Return the parent of each node."""
    return {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}


def uses(tree: ast.AST, name: str) -> list[ast.Name]:
    """Return the places where a variable is read, bound or deleted."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == name]


def reads(use: ast.Name, above: dict[ast.AST, ast.AST], source: Source) -> bool:
    """Whether a use only looks at a container: it neither changes it nor hands it to somebody who may."""
    if not _at_once(use, above, source):
        return False
    parent = above.get(use)
    match parent:
        case ast.Attribute(attr=method):
            call = above[parent]
            return method in _READING_METHODS and isinstance(call, ast.Call) and call.func is parent
        case ast.Call(func=ast.Name(id=function)) if function in _LAZY:
            return source.builtin(function) and use in parent.args and used_up(parent, above, source)
        case ast.Call():
            return _done_with(parent, use, source)
        case ast.For(iter=read) | ast.AsyncFor(iter=read) | ast.comprehension(iter=read):
            return read is use
        case ast.If(test=read) | ast.While(test=read) | ast.IfExp(test=read):
            return read is use
        case ast.Subscript(value=read, ctx=ast.Load()):
            return read is use
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return True
    return False


def _done_with(call: ast.Call, argument: ast.expr, source: Source) -> bool:
    """Whether a call reads an argument and neither keeps nor returns it, as `max(xs, ys)` and `sum([], xs)` do."""
    match call:
        case ast.Call(func=ast.Name(id=function)) if not source.builtin(function):
            return False
        case ast.Call(func=ast.Name(id="max" | "min"), args=[only]):
            return only is argument
        case ast.Call(func=ast.Name(id="max" | "min")):
            return False
        case ast.Call(func=ast.Name(id="print")):
            return argument in call.args
        case ast.Call(func=ast.Name(id=function), args=[first, *_]) if function in READERS:
            return first is argument
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join")):
            return True
    return False


def used_up(lazy: ast.expr, above: dict[ast.AST, ast.AST], source: Source) -> bool:
    """Whether what reads lazily is gone through where it is made, so that nobody reads on later."""
    parent = above.get(lazy)
    match parent:
        case ast.For(iter=read) | ast.AsyncFor(iter=read) | ast.comprehension(iter=read):
            return read is lazy  # a generator expression's own laziness is for `_at_once`
        case ast.Call(func=ast.Name(id=function)) if function in _LAZY:
            return used_up(parent, above, source)
        case ast.Call():
            return _done_with(parent, lazy, source)
    return False


def _at_once(use: ast.AST, above: dict[ast.AST, ast.AST], source: Source) -> bool:
    """Whether no generator expression around a use may still be gone through later."""
    around = above.get(use)
    while around is not None and not isinstance(around, ast.stmt):
        if isinstance(around, ast.GeneratorExp) and not used_up(around, above, source):
            return False
        around = above.get(around)
    return True


def only_read(tree: ast.AST, name: str, source: Source) -> bool:
    """Whether all uses of a container in a tree only look at it."""
    above = parents(tree)
    return all(reads(use, above, source) for use in uses(tree, name))


def owned(function: Function, name: str, source: Source) -> bool:
    """Whether nobody but the function can change a container, until it is returned.

    It is made here at each binding, no nested scope sees it, and it is never handed on.
    """
    if any(isinstance(node, ast.Global | ast.Nonlocal) and name in node.names for node in ast.walk(function)):
        return False
    if any(isinstance(node, SCOPES) and node is not function and mentions(node, name) for node in ast.walk(function)):
        return False
    above = parents(function)
    fresh = 0
    for use in uses(function, name):
        parent = above[use]
        match parent:
            case ast.Assign(targets=[target], value=value) if target is use and made(value, source):
                fresh += 1
                continue
            case ast.AnnAssign(target=target, value=ast.expr() as value) if target is use and made(value, source):
                fresh += 1
                continue
            case ast.AugAssign(target=target) if target is use:
                fresh += 1
                continue
            case ast.Attribute(attr=method) if method in _CHANGING_METHODS:
                call = above[parent]
                if isinstance(call, ast.Call) and call.func is parent:
                    continue
            case ast.Subscript(value=value) if value is use:
                continue
            case ast.Return():
                continue
            case ast.Tuple() if isinstance(above[parent], ast.Return):
                continue
        if not reads(use, above, source):
            return False
    return fresh == bound_names(function)[name]


def unchanged_in(part: ast.AST, function: Function, name: str, source: Source) -> bool:
    """Whether a container stays as it is while a part of the function runs.

    Either nobody else can reach it, or the part runs nobody else's code (that of operators and of built-ins' arguments
    is trusted). A tuple or str need only keep its name; that no nested scope binds it is for the caller to know.
    """
    if bound_names(part)[name]:
        return False
    if kinds(function, source).get(name) in {"str", "tuple"}:
        return True
    if not only_read(part, name, source):
        return False
    return owned(function, name, source) or quiet(part, function, source)


def quiet(part: ast.AST, function: Function, source: Source) -> bool:
    """Whether a part of the function calls nothing but built-ins without effects and its own containers' methods.

    Nor does it change by `+=` what may be somebody else's.
    """
    known = kinds(function, source)
    for node in ast.walk(part):
        match node:
            case ast.Call(keywords=keywords) if not all(_calls_nothing(given, source) for given in keywords):
                return False
            case ast.Call(func=ast.Name(id=called)) if called in PURE and source.builtin(called):
                pass
            case ast.AugAssign(op=ast.Add() | ast.Sub(), value=value) if _simple(value, (int, float, complex), source):
                pass  # no container takes it
            case ast.AugAssign(target=ast.Name(id=changed)):
                if not owned(function, changed, source) and not only_simple(function, changed, source):
                    return False
            case ast.AugAssign():
                return False
            case ast.Call(func=ast.Attribute(value=ast.Name(id=base), attr=method)) if base in known:
                if method not in _CHANGING_METHODS | _READING_METHODS:
                    return False
                if method in _CHANGING_METHODS and not owned(function, base, source):
                    return False
            case ast.Call(func=ast.Attribute(value=ast.Constant())):
                pass
            case ast.Call() | ast.Yield() | ast.YieldFrom() | ast.Await() | ast.With() | ast.AsyncWith():
                return False
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Import() | ast.ImportFrom():
                return False
            case ast.Subscript(value=base, ctx=ast.Store() | ast.Del()):
                if not isinstance(base, ast.Name) or not owned(function, base.id, source):
                    return False
            case ast.AsyncFor() | ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                return False
    return True


def _calls_nothing(given: ast.keyword, source: Source) -> bool:
    """Whether a keyword argument is no function that may do anything, as a `key=` may; a lambda's body is read too."""
    match given:
        case ast.keyword(arg=None):
            return False
        case ast.keyword(arg="key", value=ast.Name(id=name)):
            return name in PURE and source.builtin(name)
        case ast.keyword(arg="key", value=value):
            return isinstance(value, ast.Lambda)
    return True


def only_simple(function: Function, name: str, source: Source) -> bool:
    """Whether a local is a number or a text wherever the function binds it, which `+=` cannot change in place."""
    bound: list[ast.expr] = []
    grown = 0
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=several)], value=ast.Tuple(elts=given)):
                pairs = list(zip(several, given, strict=False))
            case ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value):
                pairs = [(target, value)]
            case ast.AugAssign(target=ast.Name(id=changed)):
                grown += changed == name
                continue
            case _:
                continue
        bound += [value for target, value in pairs if isinstance(target, ast.Name) and target.id == name]
    simple = all(_simple(value, (int, float, complex, str, bytes), source) for value in bound)
    return simple and len(bound) + grown == bound_names(function)[name]


def _simple(value: ast.expr, types: tuple[type, ...], source: Source) -> bool:
    """Whether an expression is certainly of one of these unchangeable types."""
    match value:
        case ast.Constant(value=held):
            return isinstance(held, types)
        case ast.JoinedStr():
            return str in types
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _simple(operand, types, source)
        case ast.BinOp(left=left, right=right):
            return _simple(left, types, source) and _simple(right, types, source)
        case ast.Call(func=ast.Name(id="len" | "int" | "float" as called)):
            return source.builtin(called)
    return False


def plain(expression: ast.AST) -> bool:
    """Whether an expression only reads names, constants, attributes and lengths and calculates with them."""
    allowed = (
        ast.Name, ast.Constant, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.Tuple, ast.expr_context, ast.operator,
        ast.unaryop,
    )  # fmt: skip
    match expression:
        case ast.Call(func=ast.Name(id="len"), args=[argument], keywords=[]):
            return plain(argument)
    return isinstance(expression, allowed) and all(plain(child) for child in ast.iter_child_nodes(expression))
