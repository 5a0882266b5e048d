"""How many warps, stages and elements a Triton kernel takes at a time decides how well it fills the device.

No number is best everywhere, so each is tried at half and at twice its value (stages: one fewer and one more), in a
launch `kernel[grid](..., BLOCK_SIZE=128, num_warps=4)`, in a `triton.Config`, and where a constant of the launching
function names a block's size. A size that does not fit the kernel leads to other outputs or an error, and is undone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst
import libcst.matchers as m

from omniperf.agents.arms.pattern.kernels import BLOCK, LEAST_BLOCK, MOST_BLOCK, MOST_WARPS
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import binding, blocks, bound_names, code, replaced, syntax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 36
ALTERNATIVES = True
ON_KERNELS = True
EXAMPLE_BEFORE = """\
import triton


def scale(x, kernel):
    kernel[(triton.cdiv(x.numel(), 1024),)](x, num_warps=4)
    return x
"""
EXAMPLE_AFTER = """\
import triton


def scale(x, kernel):
    kernel[(triton.cdiv(x.numel(), 1024),)](x, num_warps=8)
    return x
"""
EXAMPLE_CALLS = ()

_MOST = {"num_warps": MOST_WARPS, "num_stages": 8}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield two rewrites for each number, the greater first."""
    if source.local_name("triton") is None:
        return
    for name, value in _numbers(function, source):
        for other in _others(name, value):
            described = f"{name} {other} for {value.value}"
            yield Rewrite(described, replaced(function, value, value.with_changes(value=str(other))))


def _numbers(function: cst.FunctionDef, source: Source) -> Iterator[tuple[str, cst.Integer]]:
    """Yield name and constant of what a launch or configuration is given."""
    variables: set[str] = set()
    for found in m.findall(function, m.Call()):  # the decorators too: that is where configurations are
        call = cst.ensure_type(found, cst.Call)
        configures = _is_config(call.func, source)
        if not configures and not isinstance(call.func, cst.Subscript):
            continue
        for argument in call.args:
            match argument:
                case cst.Arg(keyword=cst.Name(value=name), value=cst.Integer() as value):
                    yield name, value
                case cst.Arg(keyword=cst.Name(value=name), value=cst.Name(value=variable)) if BLOCK.fullmatch(name):
                    variables.add(variable)
                case cst.Arg(value=cst.Dict(elements=entries)) if configures:
                    for entry in entries:
                        match entry:
                            case cst.DictElement(key=cst.SimpleString() as key, value=cst.Integer() as value):
                                yield str(key.evaluated_value), value
    bindings = bound_names(syntax(function))
    for block in blocks(function):
        for statement in block.node.body:
            name, bound = binding(statement) or ("", None)
            if name in variables and isinstance(bound, cst.Integer) and bindings[name] == 1:
                yield f"BLOCK_{name}", bound


def _is_config(called: cst.BaseExpression, source: Source) -> bool:
    match code(called).split("."):
        case [base, "Config"]:
            return source.modules.get(base) == "triton"
        case [local]:
            return source.members.get(local) == ("triton", "Config")
    return False


def _others(name: str, value: cst.Integer) -> list[int]:
    """Return the numbers to try instead."""
    number = value.evaluated_value
    if name == "num_stages":
        return [other for other in (number + 1, number - 1) if 1 <= other <= _MOST[name]]
    if number < 1 or number & (number - 1):
        return []
    if name == "num_warps":
        return [other for other in (2 * number, number // 2) if 1 <= other <= _MOST[name]]
    if BLOCK.fullmatch(name):
        return [other for other in (2 * number, number // 2) if LEAST_BLOCK <= other <= MOST_BLOCK]
    return []
