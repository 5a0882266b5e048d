"""A block's size or a number of warps that is computed, as by `triton.next_power_of_2`, is a guess all the same.

Half and twice of what was computed are tried, right after it, so that grid and launch see the same. A size that does
not fit the kernel leads to other outputs or an error, and is undone. Tested by its text: kernels need a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.kernels import BLOCK, LEAST_BLOCK, MOST_WARPS, launches
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import blocks, bound_names, syntax, with_body

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 37
ALTERNATIVES = True
EXAMPLE_BEFORE = """\
import triton


def scale(x, n, kernel):
    BLOCK_SIZE = triton.next_power_of_2(n)
    kernel[(triton.cdiv(x.numel(), BLOCK_SIZE),)](x, BLOCK_SIZE=BLOCK_SIZE)
"""
EXAMPLE_AFTER = """\
import triton


def scale(x, n, kernel):
    BLOCK_SIZE = triton.next_power_of_2(n)
    BLOCK_SIZE = max(16, BLOCK_SIZE // 2)
    kernel[(triton.cdiv(x.numel(), BLOCK_SIZE),)](x, BLOCK_SIZE=BLOCK_SIZE)
"""
EXAMPLE_CALLS = ()


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield two rewrites for each computed number that a launch is given by name."""
    if source.local_name("triton") is None or not source.builtin("max", "min"):
        return
    given = {
        argument.value.value: argument.keyword.value
        for _, call in launches(function)
        for argument in call.args
        if argument.keyword and isinstance(argument.value, cst.Name)
    }
    bindings = bound_names(syntax(function))
    for block in blocks(function):
        for index, statement in enumerate(block.node.body):
            for name in _computed(statement):
                for text in _others(name, given.get(name, "")) if bindings[name] == 1 else ():
                    new = cst.parse_statement(f"{name} = {text}")
                    body = [*block.node.body[: index + 1], new, *block.node.body[index + 1 :]]
                    yield Rewrite(f"`{name} = {text}`", with_body(function, block, body))


def _computed(statement: cst.BaseStatement) -> list[str]:
    """Return the names that a statement binds to what is not written out."""
    match statement:
        case cst.SimpleStatementLine(body=[cst.Assign(targets=[cst.AssignTarget(target=target)], value=value)]):
            if isinstance(target, cst.Name):
                return [] if isinstance(value, cst.Integer) else [target.value]
            if isinstance(target, cst.Tuple) and isinstance(value, cst.Call):
                return [one.value.value for one in target.elements if isinstance(one.value, cst.Name)]
    return []


def _others(name: str, keyword: str) -> list[str]:
    if keyword == "num_warps":
        return [f"min({MOST_WARPS}, 2 * {name})", f"max(1, {name} // 2)"]
    if BLOCK.fullmatch(keyword):
        return [f"max({LEAST_BLOCK}, {name} // 2)", f"2 * {name}"]
    return []
