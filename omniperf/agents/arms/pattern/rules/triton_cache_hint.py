"""What a kernel reads or writes once need not push out of the cache what it needs again.

Hints do not change what is read or written: loads that evict first, or last, and stores that stream are tried, each for
the whole kernel. A call that has a hint keeps it. Tested by its text: kernels need a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.kernels import compiled
from omniperf.agents.arms.pattern.rules import Rewrite
from omniperf.agents.arms.pattern.syntax import code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from omniperf.agents.arms.pattern.source import Source

RANK = 39
ALTERNATIVES = True
ON_KERNELS = True
EXAMPLE_BEFORE = """\
import triton
import triton.language as tl


@triton.jit
def copied(x, y, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at))
"""
EXAMPLE_AFTER = """\
import triton
import triton.language as tl


@triton.jit
def copied(x, y, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, eviction_policy="evict_first"))
"""
EXAMPLE_CALLS = ()

_HINTS = (
    ("load", 'eviction_policy="evict_first"'),
    ("store", 'cache_modifier=".cs"'),
    ("load", 'eviction_policy="evict_last"'),
)
_NAMES = {"cache_modifier", "eviction_policy", "volatile"}


def rewrites(function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
    """Yield one rewrite for each hint."""
    language = source.local_name("triton.language")
    if language is None or not compiled(function):
        return
    for access, hint in _HINTS:
        added = cst.ensure_type(cst.parse_expression(f"f({hint})"), cst.Call).args
        new = cst.ensure_type(function.visit(_Hinted(f"{language}.{access}", added)), cst.FunctionDef)
        if not new.deep_equals(function):
            yield Rewrite(f"`{hint}` for each `{language}.{access}`", new)


class _Hinted(cst.CSTTransformer):
    """Adds arguments to each call of a function that has no hint and names what it accesses by place."""

    def __init__(self, called: str, added: Sequence[cst.Arg]) -> None:
        super().__init__()
        self.called, self.added = called, added

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:  # noqa: N802 - libcst's name
        given = {argument.keyword.value for argument in original_node.args if argument.keyword}
        starred = any(argument.star for argument in original_node.args)
        if code(original_node.func) != self.called or not _NAMES.isdisjoint(given) or starred:
            return updated_node
        return updated_node.with_changes(args=[*updated_node.args, *self.added])
