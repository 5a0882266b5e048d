"""What a function does with torch's tensors: which names hold one, what makes a new one, and what writes into one.

A parameter is believed to be a tensor by its annotation, or because it is asked what only tensors answer. A function or
method is believed to write into none of its arguments unless torch's conventions say so: a name that ends in `_`,
`out=`, or a kernel's launch.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from omniperf.agents.arms.pattern.syntax import bound_names, syntax
from omniperf.agents.arms.pattern.uses import PURE, READERS, SCOPES, Function, only_simple, origin, parents

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from omniperf.agents.arms.pattern.source import Source

# Of torch: functions that make a tensor of what are no tensors.
CREATORS = {
    "arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "tensor", "zeros",
}  # fmt: skip
# Functions and methods of the same name that read tensors and answer with one in memory of its own.
_NEW = {
    "abs", "add", "addcdiv", "addcmul", "addmm", "all", "amax", "amin", "any", "argmax", "argmin", "argsort",
    "baddbmm", "bincount", "bmm", "cat", "ceil", "clamp", "clone", "cos", "cumprod", "cumsum", "div", "dot", "eq",
    "erf", "exp", "floor", "gather", "ge", "gt", "index_select", "le", "log", "log_softmax", "logsumexp", "lt",
    "masked_fill", "masked_select", "matmul", "maximum", "mean", "minimum", "mm", "mul", "ne", "neg", "nonzero",
    "norm", "outer", "pow", "prod", "relu", "round", "rsqrt", "sigmoid", "sin", "softmax", "sqrt", "square",
    "stack", "std", "sub", "sum", "tanh", "var", "where", "empty_like", "full_like", "ones_like", "rand_like",
    "randn_like", "zeros_like", "new_empty", "new_full", "new_ones", "new_zeros",
}  # fmt: skip
# Those that give the number of one element where they are asked for no dimension.
REDUCTIONS = {
    "all", "amax", "amin", "any", "argmax", "argmin", "max", "mean", "min", "norm", "prod", "std", "sum", "var",
}  # fmt: skip
CONVERSIONS = {"bfloat16", "bool", "byte", "cpu", "cuda", "double", "float", "half", "int", "long", "to"}
# Methods whose answer may be the same memory.
_VIEWS = {
    "contiguous", "detach", "expand", "flatten", "narrow", "permute", "reshape", "select", "squeeze", "t", "transpose",
    "unflatten", "unsqueeze", "view", "view_as",
}  # fmt: skip
# What neither numbers, arrays nor modules answer.
_ONLY_TENSORS = {
    "contiguous", "data_ptr", "detach", "expand", "index_select", "is_contiguous", "is_cuda", "masked_fill",
    "new_empty", "new_full", "new_ones", "new_zeros", "numel", "permute", "stride", "unsqueeze",
}  # fmt: skip
_KEEPERS = {"add", "append", "extend"}  # of a list or set: they read nothing of what they are given


def of_torch(called: ast.expr, source: Source) -> str:
    """Return the name of the function of torch that an expression means, "cuda.synchronize" for one inside; else ""."""
    inner = ""
    while isinstance(called, ast.Attribute):
        if (found := origin(called, source)) and found[0].partition(".")[0] == "torch":
            return f"{f'{found[0]}.{found[1]}'.removeprefix('torch.')}{inner}"
        inner, called = f".{called.attr}{inner}", called.value
    found = origin(called, source)
    return f"{f'{found[0]}.{found[1]}'.removeprefix('torch.')}{inner}" if found and found[0] == "torch" else ""


def tensors(function: Function, source: Source) -> set[str]:
    """Return the names that hold a tensor wherever the function binds them."""
    if source.local_name("torch") is None and not any(whose == "torch" for whose, _ in source.members.values()):
        return set()
    bindings, given = bound_names(function), _parameters(function, source)
    bound: dict[str, list[ast.expr | None]] = {name: [None] for name in given}  # None: certainly a tensor
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                bound.setdefault(name, []).append(value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                bound.setdefault(name, []).append(value)
            case (
                ast.For(target=ast.Name(id=name), iter=value) | ast.comprehension(target=ast.Name(id=name), iter=value)
            ):
                bound.setdefault(name, []).append(ast.Subscript(value, ast.Constant(0), ast.Load()))
            case ast.AugAssign(target=ast.Name(id=name)):
                bindings[name] -= 1
    known = {name for name, values in bound.items() if len(values) == bindings[name]}
    while wrong := {name for name in known if not all(v is None or is_tensor(v, known, source) for v in bound[name])}:
        known -= wrong
    return known


def _parameters(function: Function, source: Source) -> set[str]:
    """Return the parameters that are tensors by their annotation or by what they are asked."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    asked = {
        node.value.id
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in _ONLY_TENSORS
    }
    return {
        one.arg
        for one in arguments
        if one.arg in asked or (one.annotation is not None and origin(one.annotation, source) == ("torch", "Tensor"))
    }


def is_tensor(value: ast.expr, known: set[str], source: Source) -> bool:
    """Whether an expression is certainly a tensor, given the names that hold one."""
    match value:
        case ast.Name(id=name):
            return name in known
        case ast.BinOp(left=left, right=right):
            return is_tensor(left, known, source) or is_tensor(right, known, source)
        case ast.Compare(left=left, ops=[ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE() | ast.Eq() | ast.NotEq()]):
            return is_tensor(left, known, source)
        case ast.UnaryOp(op=ast.USub() | ast.Invert(), operand=operand):
            return is_tensor(operand, known, source)
        case ast.Subscript(value=base) | ast.Attribute(value=base, attr="T" | "mT"):
            return is_tensor(base, known, source)
        case ast.Call(func=called) if name := of_torch(called, source):
            return name.rpartition(".")[2] in _NEW | CREATORS
        case ast.Call(func=ast.Attribute(value=base, attr=method), args=arguments, keywords=keywords):
            asked = {"max", "min"} if not arguments and not keywords else set()
            return method in _NEW | CONVERSIONS | _VIEWS | asked and is_tensor(base, known, source)
    return False


def fresh(value: ast.expr, known: set[str], source: Source) -> bool:
    """Whether an expression is a tensor in memory that nothing else has."""
    match value:
        case ast.BinOp() | ast.UnaryOp() | ast.Compare():
            return is_tensor(value, known, source)
        case ast.Call(func=called) if name := of_torch(called, source):
            shared = any(keyword.arg in {"out", "inplace"} for keyword in value.keywords)
            return name.rpartition(".")[2] in _NEW | CREATORS and not shared
        case ast.Call(func=ast.Attribute(attr=method)):
            return method in _NEW and is_tensor(value, known, source)
    return False


def only_an_operand(use: ast.AST, above: dict[ast.AST, ast.AST], source: Source) -> bool:
    """Whether a tensor is only calculated with at a place: nobody keeps it, has a view of it or writes into it."""
    parent = above.get(use)
    match parent:
        case ast.BinOp() | ast.Compare() | ast.UnaryOp():
            return True
        case ast.Call(func=called, args=arguments) if any(use is one for one in arguments):
            return (of_torch(called, source).rpartition(".")[2] or _method(called)) in _NEW
        case ast.Attribute(attr=method):
            call = above.get(parent)
            return isinstance(call, ast.Call) and call.func is parent and method in _NEW | REDUCTIONS
    return False


def _method(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else ""


def unwritten(part: ast.AST, name: str, function: Function, source: Source) -> bool:
    """Whether a tensor keeps its name and its elements while a part of the function runs.

    What the part writes into is memory that the function made; nobody who is given the tensor is unknown.
    """
    if bound_names(part)[name] or any(isinstance(node, (*SCOPES, ast.Yield, ast.Await)) for node in ast.walk(part)):
        return False
    known = tensors(function, source)
    written = set(_written(part, name, function, source))
    return all(other != name and _own(other, function, known, source) for other in written)


def keeps(value: ast.expr, loop: ast.AST, function: Function, source: Source) -> bool:
    """Whether a tensor that one turn of a loop makes or reads still has the same elements after the last turn."""
    known, bound = tensors(function, source), bound_names(loop)
    if any(isinstance(node, (*SCOPES, ast.Yield, ast.Await)) for node in ast.walk(loop)):
        return False
    if fresh(value, known, source):
        return True
    name = _root(value)
    if name not in known:
        return False
    if not bound[name]:
        return unwritten(loop, name, function, source)
    made = bound[name] == bound_names(function)[name] and _own(name, function, known, source)
    return made and name not in set(_written(loop, name, function, source))


def _own(name: str, function: Function, known: set[str], source: Source) -> bool:
    """Whether a name is bound to nothing but memory that nothing else had then."""
    values = [
        node.value
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)
    ]
    grown = sum(isinstance(node, ast.AugAssign) and _root(node.target) == name for node in ast.walk(function))
    made = (fresh(value, known, source) or isinstance(value, ast.List | ast.Dict | ast.ListComp) for value in values)
    return len(values) > 0 and len(values) + grown >= bound_names(function)[name] and all(made)


def _written(part: ast.AST, name: str, function: Function, source: Source) -> Iterator[str]:
    """Yield the names into whose memory a part may write, and `name` where somebody unknown is given it."""
    for node in ast.walk(part):
        match node:
            case ast.Subscript(ctx=ast.Store() | ast.Del()) | ast.Attribute(ctx=ast.Store() | ast.Del()):
                yield _root(node)
            case ast.AugAssign(target=ast.Name(id=grown)) if not only_simple(function, grown, source):
                yield grown
            case ast.keyword(arg="out", value=value):
                yield _root(value)
            case ast.Call(func=ast.Subscript(), args=arguments, keywords=keywords):
                yield from (_root(one) for one in (*arguments, *(keyword.value for keyword in keywords)))
            case ast.Call(func=ast.Attribute(value=base, attr=method)) if method.endswith("_"):
                yield _root(base)
            case ast.Call(func=called) if not _reads_only(called, source):
                given = (*node.args, *(keyword.value for keyword in node.keywords))
                yield from (name for one in given if _hands(one, name))


def _reads_only(called: ast.expr, source: Source) -> bool:
    match called:
        case ast.Name(id=name) if name in PURE | READERS:
            return source.builtin(name)
        case ast.Attribute(attr=method) if method in _KEEPERS | _NEW | CONVERSIONS | REDUCTIONS | _VIEWS:
            return True
    return bool(of_torch(called, source))


def _hands(argument: ast.AST, name: str) -> bool:
    """Whether an argument holds a tensor itself or a view of it; what is calculated from it is something else."""
    match argument:
        case ast.Call(func=ast.Attribute(value=base, attr=method)) if method in CONVERSIONS | _VIEWS:
            return _hands(base, name)
        case ast.Call() | ast.BinOp() | ast.Compare():
            return False
        case ast.Name(id=given):
            return given == name
    return any(_hands(child, name) for child in ast.iter_child_nodes(argument))


def _root(node: ast.AST) -> str:
    """Return the name that an expression like `x[0].T` starts from, or "" for any other."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Starred):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def calculated_with(wanted: ast.expr, function: Function, source: Source) -> bool:
    """Whether a tensor is only an operand at each place of the function where this very expression stands."""
    above, text = parents(function), ast.dump(wanted)
    return all(only_an_operand(node, above, source) for node in above if ast.dump(node) == text)


def twin_of(function: cst.FunctionDef) -> Function:
    """Return the `ast` twin of a function."""
    twin = syntax(function).body[0]
    assert isinstance(twin, ast.FunctionDef | ast.AsyncFunctionDef)
    return twin
