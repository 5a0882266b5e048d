"""`y = y + z` on a tensor that nobody else has makes another of its size; `y += z` writes where it lies.

Only right after `y` was made by an operation in the same block, with no use in between, so that it has no other name
and no view. Where `z` has a larger shape, or gradients need the old `y`, that is an error; where `z` has a wider type,
the outputs tell: the try is undone.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import Block, blocks, code, mentions, private_local, replaced, syntax
from omniperf.agents.arms.pattern.tensors import fresh, tensors, twin_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omniperf.agents.arms.pattern.source import Source

RANK = 35
EXAMPLE_BEFORE = """\
import torch


def raised(x: torch.Tensor, gain: torch.Tensor):
    y = x * gain
    y = y + 1
    y = y / gain
    return y
"""
EXAMPLE_AFTER = """\
import torch


def raised(x: torch.Tensor, gain: torch.Tensor):
    y = x * gain
    y += 1
    y /= gain
    return y
"""
EXAMPLE_CALLS = ("raised(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])).tolist()",)

_IN_PLACE: dict[type[cst.BaseBinaryOp], type[cst.BaseAugOp]] = {
    cst.Add: cst.AddAssign, cst.Subtract: cst.SubtractAssign, cst.Multiply: cst.MultiplyAssign,
    cst.Divide: cst.DivideAssign,
}  # fmt: skip


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each tensor that takes the place of its like."""
    known = tensors(twin_of(function), source)
    for block in blocks(function) if known else ():
        for index, statement in enumerate(block.node.body):
            match statement:
                case cst.SimpleStatementLine(
                    body=[
                        cst.Assign(
                            targets=[cst.AssignTarget(target=cst.Name(value=name))],
                            value=cst.BinaryOperation(left=cst.Name(value=left), operator=operator, right=right),
                        )
                    ]
                ) if name == left and name in known and type(operator) in _IN_PLACE:
                    tree = syntax(statement)
                    alone = private_local(function, name) and _alone(block, index, name, known, source)
                    if alone and mentions(tree, name) == 2:
                        op = _IN_PLACE[type(operator)]()
                        new = statement.with_changes(body=[cst.AugAssign(cst.Name(name), op, right)])
                        yield Rewrite(f"`{code(new).strip()}`", replaced(function, statement, new))


def _alone(block: Block, index: int, name: str, known: set[str], source: Source) -> bool:
    """Whether the block made the tensor, and has done no more with it than to calculate in place."""
    for statement in reversed(block.node.body[:index]):
        tree = syntax(statement)
        if not mentions(tree, name):
            continue
        match tree.body:
            case [ast.AugAssign(target=ast.Name(id=changed), value=value)] if changed == name:
                if mentions(value, name):
                    return False
            case [ast.Assign(targets=[ast.Name(id=bound)], value=value)] if bound == name:
                return fresh(value, known, source)
            case _:
                return False
    return False
