"""Arrays of torch and numpy that are made filled, and statements that write every element of one."""

from __future__ import annotations

import ast
import re
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.syntax import Block, binding, expression, mentions, private_local, syntax
from omniperf.agents.arms.pattern.uses import origin

if TYPE_CHECKING:
    from omniperf.agents.arms.pattern.source import Source

_UNFILLED = {
    "zeros": "empty", "zeros_like": "empty_like", "new_zeros": "new_empty",
    "ones": "empty", "ones_like": "empty_like", "new_ones": "new_empty",
}  # fmt: skip
_EMPTY = {"empty", "empty_like", "new_empty"}
_LIBRARIES = {"torch", "numpy"}
# Arguments that `empty` takes too, with the same meaning, and that leave a plain block of memory behind.
_ARGUMENTS = {"size", "shape", "dtype", "device", "requires_grad", "pin_memory", "memory_format", "order"}
# Of torch: methods that write every element and read none.
_WRITERS = {"copy_", "fill_", "zero_", "normal_", "uniform_", "random_", "exponential_", "fill"}
# Of torch and numpy: functions that write every element of `out=`.
_WITH_OUT = {
    "abs", "add", "bmm", "cat", "clamp", "clip", "concatenate", "cos", "cumsum", "div", "divide", "dot", "exp", "log",
    "matmul", "maximum", "minimum", "mm", "mul", "multiply", "neg", "negative", "sin", "sqrt", "square", "stack", "sub",
    "subtract", "tanh", "true_divide",
}  # fmt: skip
_NUMBERS = re.compile(r"bool_?|u?int(8|16|32|64|p)?|float(16|32|64)?|complex(64|128)?|double|single|half")
_OPERANDS = {"out", "dim", "axis", "alpha", "min", "max"}


@dataclass(frozen=True)
class Allocation:
    """A statement that makes an array: where it stands in its block, the array's name and the call.

    `filled` is 0 or 1 where the array is filled so, None where its memory is as it was. `numeric`: its elements are
    certainly numbers of one type, whatever is stored; objects and texts (`numpy.zeros(n, dtype=object)`) keep what
    they are given.
    """

    index: int
    name: str
    call: cst.Call
    filled: int | None
    library: str
    numeric: bool


def allocations(function: cst.FunctionDef, block: Block, source: Source) -> list[Allocation]:
    """Return the arrays that a block makes and that nothing but the function's own code can see half-written.

    Where an error in between could be caught, whoever catches it might look at the array.
    """
    if any(isinstance(around, cst.Try | cst.TryStar | cst.With) for around in block.enclosing):
        return []
    found = []
    for index, statement in enumerate(block.node.body):
        name, value = binding(statement) or ("", None)
        made = _made(value, source) if isinstance(value, cst.Call) else None
        if made is not None and isinstance(value, cst.Call) and private_local(function, name):
            found.append(Allocation(index, name, value, *made, _numeric(value, made[1], source)))
    return found


def _made(call: cst.Call, source: Source) -> tuple[int | None, str] | None:
    """Return what a call fills its new array with, and whose it is; None where it is no such call."""
    called = expression(call.func)
    keywords = [argument.keyword.value for argument in call.args if argument.keyword]
    if any(argument.star == "**" for argument in call.args) or not _ARGUMENTS.issuperset(keywords):
        return None
    library, name = origin(called, source) or ("", "")
    if isinstance(called, ast.Attribute) and called.attr.startswith("new_") and source.local_name("torch"):
        library, name = "torch", called.attr
    if library not in _LIBRARIES or name not in {*_UNFILLED, *_EMPTY}:
        return None
    return (None if name in _EMPTY else int(name.removeprefix("new_").startswith("ones"))), library


def _numeric(call: cst.Call, library: str, source: Source) -> bool:
    """Whether an array's elements are numbers: all of torch's are, numpy's by a dtype that is plain to see."""
    if library == "torch":
        return True
    twin = expression(call)
    assert isinstance(twin, ast.Call)
    named = origin(twin.func, source)
    if named is None or named[1].endswith("_like"):
        return False
    given = [*twin.args[1:2], *(keyword.value for keyword in twin.keywords if keyword.arg == "dtype")]
    match given:
        case []:
            return not any(isinstance(argument, ast.Starred) for argument in twin.args)
        case [ast.Name(id="bool" | "complex" | "float" | "int" as kind)]:
            return source.builtin(kind)
        case [ast.Constant(value=str(kind))]:
            return _NUMBERS.fullmatch(kind) is not None
        case [dtype]:
            whose, kind = origin(dtype, source) or ("", "")
            return whose == "numpy" and _NUMBERS.fullmatch(kind) is not None
    return False


def unfilled(call: cst.Call, source: Source) -> cst.Call | None:
    """Return the call that makes the same array without filling it; None where its name is imported by itself."""
    match call.func:
        case cst.Attribute(attr=cst.Name(value=name)) if name in _UNFILLED:
            return call.with_changes(func=call.func.with_changes(attr=cst.Name(_UNFILLED[name])))
        case cst.Name(value=local):
            library, name = source.members.get(local, ("", ""))
            beside = next(
                (own for own, whose in source.members.items() if whose == (library, _UNFILLED.get(name))), None
            )
            if beside is None and (module := source.local_name(library)):
                beside = f"{module}.{_UNFILLED[name]}"
            return call.with_changes(func=cst.parse_expression(beside)) if beside else None
    return None


def next_use(block: Block, index: int, name: str) -> int | None:
    """Return the index of the next statement of a block that mentions a name."""
    for later in range(index + 1, len(block.node.body)):
        if mentions(syntax(block.node.body[later]), name):
            return later
    return None


def writes_all(statement: cst.BaseStatement, name: str, source: Source) -> bool:
    """Whether a statement writes every element of an array, reads none, and does nothing else with it."""
    tree = syntax(statement)
    if mentions(tree, name) != 1 or len(tree.body) != 1:
        return False
    match tree.body[0]:
        case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=base), slice=place)]):
            return base == name and _everywhere(place)
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=base), attr=method))) if base == name:
            return method in _WRITERS
        case ast.Expr(value=ast.Call(func=called, keywords=keywords)):
            given = {keyword.arg: keyword.value for keyword in keywords}
            out = given.get("out")
            library, function = origin(called, source) or ("", "")
            whole = library in _LIBRARIES and function in _WITH_OUT and _OPERANDS.issuperset(map(str, given))
            return whole and isinstance(out, ast.Name) and out.id == name
    return False


def fills(statement: cst.BaseStatement, name: str) -> int | None:
    """Return the constant that a statement fills an array with; None for any other statement."""
    tree = syntax(statement)
    if len(tree.body) != 1:
        return None
    match tree.body[0]:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=base), attr="zero_"), args=[], keywords=[])):
            return 0 if base == name else None
        case ast.Expr(
            value=ast.Call(
                func=ast.Attribute(value=ast.Name(id=base), attr="fill_" | "fill"),
                args=[ast.Constant(value=int(value) | float(value))],
                keywords=[],
            )
        ):
            return int(value) if base == name and value in (0, 1) else None
        case ast.Assign(
            targets=[ast.Subscript(value=ast.Name(id=base), slice=place)],
            value=ast.Constant(value=int(value) | float(value)),
        ):
            return int(value) if base == name and _everywhere(place) and value in (0, 1) else None
    return None


def _everywhere(place: ast.expr) -> bool:
    match place:
        case ast.Slice(lower=None, upper=None, step=None) | ast.Constant(value=types.EllipsisType()):
            return True
    return False
