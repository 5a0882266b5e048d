"""Whether code only answers: evaluated less often or in another order, it leaves all else as it was.

What the module itself defines is read, and what that calls in turn. An import is believed unless it is named like an
action; any other function, and a method that no text or dict has, is not.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omniperf.agents.arms.pattern.uses import PURE, Function, only_simple, origin

if TYPE_CHECKING:
    from omniperf.agents.arms.pattern.source import Source

_ACTIONS = {
    "acquire", "add", "advance", "append", "apply", "assert", "build", "call", "choice", "choices", "clear", "close",
    "commit", "consume", "create", "del", "delete", "discard", "do", "drain", "emit", "exec", "execute", "extend",
    "feed", "fill", "flush", "free", "handle", "input", "insert", "kill", "load", "lock", "log", "make", "next",
    "notify", "open", "pop", "popleft", "post", "print", "process", "publish", "push", "put", "rand", "randint",
    "random", "read", "readline", "recv", "register", "release", "remove", "reset", "rotate", "run", "sample", "save",
    "send", "set", "setattr", "setdefault", "shuffle", "signal", "sort", "start", "step", "stop", "store", "submit",
    "uniform", "update", "visit", "wait", "write",
}  # fmt: skip
_BUILTINS = PURE | {"ascii", "bin", "callable", "complex", "format", "getattr", "hasattr", "hex", "issubclass", "oct"}
# Methods of texts, dicts, sets, numbers and matches that only answer; nothing else is known to be called so and to act.
_METHODS = {
    "bit_length", "casefold", "decode", "difference", "encode", "endswith", "fullmatch", "group", "groups",
    "intersection", "is_integer", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isdisjoint",
    "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "issubset", "issuperset", "istitle", "isupper",
    "items", "join", "keys", "ljust", "lower", "lstrip", "match", "partition", "removeprefix", "removesuffix",
    "replace", "rfind", "rindex", "rjust", "rpartition", "rsplit", "rstrip", "search", "split", "splitlines",
    "startswith", "strip", "swapcase", "symmetric_difference", "title", "upper", "values", "zfill",
}  # fmt: skip
_DECORATORS = {"cache", "cached_property", "classmethod", "lru_cache", "property", "staticmethod", "wraps"}


@dataclass(frozen=True)
class _Module:
    """The functions and methods of a module by name, how many of them are no methods, and what look-ups add to."""

    source: Source
    defined: dict[str, list[Function]]
    methods: frozenset[int]
    filling: frozenset[str]

    @classmethod
    def of(cls, source: Source) -> _Module:
        """Read a module once."""
        defined: dict[str, list[Function]] = defaultdict(list)
        methods: set[int] = set()
        filling: set[str] = set()
        for node in ast.walk(source.tree):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    defined[name].append(node)
                case ast.ClassDef(body=body):
                    methods.update(map(id, body))
                case (
                    ast.Assign(targets=[target], value=ast.Call(func=called))
                    | ast.AnnAssign(target=target, value=ast.Call(func=called))
                ) if origin(called, source) == ("collections", "defaultdict"):
                    filling.add(target.id if isinstance(target, ast.Name) else getattr(target, "attr", ""))
                case ast.arg(arg=name, annotation=ast.expr() as given) if "defaultdict" in ast.unparse(given).lower():
                    filling.add(name)
        return cls(source, dict(defined), frozenset(methods), frozenset(filling))

    def functions(self, name: str) -> int:
        """Count the functions of a name that are no methods."""
        return sum(id(function) not in self.methods for function in self.defined.get(name, ()))


def answers(tree: ast.AST, source: Source) -> bool:
    """Whether evaluating a tree has no effect but its value, as far as its syntax and the module's functions say."""
    module = _Module.of(source)
    read: set[str] = set()
    pending = [tree]
    while pending:
        part = pending.pop()
        for node in ast.walk(part):
            if _acts(node, part, module):
                return False
            match node:  # called, handed on or looked up as a property
                case ast.Name(id=name, ctx=ast.Load()) | ast.Attribute(attr=name, ctx=ast.Load()) if name not in read:
                    read.add(name)
                    pending.extend(module.defined.get(name, ()))
    return True


def function_answers(function: ast.expr, source: Source) -> bool:
    """Whether calling what an expression names, as in `key=`, has no effect but its value."""
    return answers(ast.Call(ast.Name("sorted", ast.Load()), [], [ast.keyword("key", function)]), source)


def _acts(node: ast.AST, part: ast.AST, module: _Module) -> bool:
    """Whether one node of a part by itself may change something, or end in an error on purpose."""
    match node:
        case ast.Global() | ast.Nonlocal() | ast.Await() | ast.Yield() | ast.YieldFrom() | ast.NamedExpr():
            return True
        case ast.With() | ast.AsyncWith() | ast.AsyncFor() | ast.comprehension(is_async=1) | ast.ClassDef():
            return True
        case ast.Raise() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
            return True
        case ast.AugAssign(target=ast.Name(id=name)):
            return not isinstance(part, Function) or not only_simple(part, name, module.source)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in module.filling
        case ast.Expr(value=value):
            return not isinstance(value, ast.Constant)
        case ast.FunctionDef(decorator_list=decorators) | ast.AsyncFunctionDef(decorator_list=decorators):
            return not all(_harmless_decorator(decorator) for decorator in decorators)
        case ast.keyword(arg="key", value=value):
            return not (isinstance(value, ast.Lambda) or _believed(value, module) or _makes_getter(value, module))
        case ast.Call(func=called):
            return not _believed(called, module)
    return False


def _harmless_decorator(decorator: ast.expr) -> bool:
    match decorator.func if isinstance(decorator, ast.Call) else decorator:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _DECORATORS
    return False


def _makes_getter(value: ast.expr, module: _Module) -> bool:
    return isinstance(value, ast.Call) and (origin(value.func, module.source) or ("",))[0] == "operator"


def _believed(called: ast.expr, module: _Module) -> bool:
    """Whether what is called is known not to act, or is a function of the module, which is read for itself."""
    source = module.source
    match called:
        case ast.Name(id=name) if name in _BUILTINS and source.builtin(name):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name) if _named_like_action(name):
            return False
        case ast.Name(id=name) if name in source.members:
            return not _named_like_action(source.members[name][1])
        case ast.Name(id=name):
            return 0 < source.bound[name] == module.functions(name)
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if name in module.defined:
            return True
        case ast.Attribute(value=value, attr=name):
            return name in _METHODS or _of_module(value, source)
    return False


def _of_module(value: ast.expr, source: Source) -> bool:
    """Whether something is an imported module, or an attribute of one, that has no name of an action."""
    while isinstance(value, ast.Attribute) and not _named_like_action(value.attr):
        value = value.value
    name = source.modules.get(value.id) if isinstance(value, ast.Name) else None
    return name is not None and not _named_like_action(name)


def _named_like_action(name: str) -> bool:
    return not _ACTIONS.isdisjoint(name.lower().replace(".", "_").strip("_").split("_"))
