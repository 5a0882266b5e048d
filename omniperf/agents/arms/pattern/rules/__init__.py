"""The rules of `pattern`, one small file each; a new file in this folder is a new rule."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libcst as cst

    from omniperf.agents.arms.pattern.source import Source


@dataclass(frozen=True)
class Rewrite:
    """One change at one place: the function as it would be, and statements wanted once after the module's imports.

    A `speculative` rewrite is right only if memory that it leaves unwritten is never read, which a run with poisoned
    memory must show.
    """

    description: str
    function: cst.FunctionDef
    prelude: tuple[str, ...] = ()
    speculative: bool = False


class Rule(Protocol):
    """What a rule's module defines. Its docstring says what is slow and what the rewrite assumes.

    `RANK` orders the rules for one function: what changes the complexity comes before what saves a constant.
    `EXAMPLE_CALLS` are expressions that must have the same value after EXAMPLE_BEFORE and after EXAMPLE_AFTER.
    Two flags may be left out: with `ALTERNATIVES` the rewrites are tried one at a time, for they exclude each other;
    with `ON_KERNELS` the rule is for functions compiled for a GPU too.
    """

    RANK: int
    EXAMPLE_BEFORE: str
    EXAMPLE_AFTER: str
    EXAMPLE_CALLS: tuple[str, ...]

    @property
    def __name__(self) -> str: ...

    def rewrites(self, function: cst.FunctionDef, source: Source) -> Iterator[Rewrite]:
        """Yield one rewrite for each place in the function where the rule applies."""
        ...


def name_of(rule: Rule) -> str:
    """Return a rule's name: that of its file."""
    return rule.__name__.rpartition(".")[2]


def flagged(rule: Rule, flag: str) -> bool:
    """Whether a rule sets one of its flags."""
    return bool(getattr(rule, flag, False))


@cache
def all_rules() -> tuple[Rule, ...]:
    """Import every rule of this folder, in the order in which they are tried."""
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return tuple(sorted((cast("Rule", module) for module in modules), key=lambda rule: (rule.RANK, name_of(rule))))
