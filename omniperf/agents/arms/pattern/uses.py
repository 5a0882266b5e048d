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

# Built-ins that read their arguments and keep no right to change them.
READERS = {
    "all", "any", "enumerate", "frozenset", "len", "list", "max", "min", "print", "repr", "reversed", "set", "sorted",
    "str", "sum", "tuple", "zip",
}  # fmt: skip
# Built-ins that run no code but that of the values they are given.
_PURE = READERS - {"print"} | {
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


def reads(use: ast.Name, above: dict[ast.AST, ast.AST]) -> bool:
    """Whether a use only looks at a container: it neither changes it nor hands it to somebody who may."""
    parent = above.get(use)
    match parent:
        case ast.Attribute(attr=method):
            call = above[parent]
            return method in _READING_METHODS and isinstance(call, ast.Call) and call.func is parent
        case ast.Call(func=ast.Name(id=function)):
            return function in READERS
        case ast.For(iter=read) | ast.AsyncFor(iter=read) | ast.comprehension(iter=read):
            return read is use
        case ast.If(test=read) | ast.While(test=read) | ast.IfExp(test=read):
            return read is use
        case (
            ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"))
            | ast.Subscript(ctx=ast.Load())
            | ast.Compare()
            | ast.UnaryOp(op=ast.Not())
        ):
            return True
    return False


def only_read(tree: ast.AST, name: str) -> bool:
    """Whether all uses of a container in a tree only look at it."""
    above = parents(tree)
    return all(reads(use, above) for use in uses(tree, name))


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
        if not reads(use, above):
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
    if not only_read(part, name):
        return False
    return owned(function, name, source) or quiet(part, function, source)


def quiet(part: ast.AST, function: Function, source: Source) -> bool:
    """Whether a part of the function calls nothing but built-ins without effects and its own containers' methods."""
    known = kinds(function, source)
    for node in ast.walk(part):
        match node:
            case ast.Call(func=ast.Name(id=called)) if called in _PURE and source.builtin(called):
                pass
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
