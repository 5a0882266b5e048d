"""One module of the tree: the syntax that is edited and the facts about names that the rules ask for."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import libcst as cst

from omniperf.agents.arms.pattern.syntax import bound_names, code, stored_by

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable

    from omniperf.agents.arms.pattern.rules import Rewrite

_CONSTRUCTORS = frozenset({"__init__", "__new__", "__post_init__", "__setstate__"})
_IDENTIFIER = re.compile(r"[^\W\d]\w*")


@dataclass(frozen=True)
class Source:
    """A parsed module.

    `words` is every identifier-like word of the text, so that a new name collides with nothing, not even with what a
    string evaluates. `bound` counts the bindings of a name over all scopes: a name bound once, by an import at the
    top, means that import everywhere (`modules`: what a local name imports; `members`: from where and what). `stored`
    are the attributes assigned outside constructors, with "*" for one whose name is not written out; `shared` are the
    names declared global or nonlocal somewhere. `prelude` are the statements that rewrites so far want after the
    imports.
    """

    module: cst.Module
    tree: ast.Module
    words: frozenset[str]
    bound: Counter[str]
    stored: frozenset[str]
    shared: frozenset[str]
    modules: dict[str, str] = field(default_factory=dict)
    members: dict[str, tuple[str, str]] = field(default_factory=dict)
    prelude: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Source | None:
        """Parse a module's text; None where it cannot be read and written back unchanged."""
        try:
            module, tree = cst.parse_module(text), ast.parse(text)
        except (cst.ParserSyntaxError, SyntaxError, ValueError, RecursionError):
            return None
        if module.code != text:
            return None
        bound = bound_names(tree)
        modules: dict[str, str] = {}
        members: dict[str, tuple[str, str]] = {}
        for statement in tree.body:
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    modules[local] = alias.name if alias.asname else local
            elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
                for alias in statement.names:
                    members[alias.asname or alias.name] = (statement.module, alias.name)
        return cls(
            module,
            tree,
            frozenset(_IDENTIFIER.findall(text)),
            bound,
            frozenset(_stored_outside_constructors(tree)),
            frozenset(
                name for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names
            ),
            {name: origin for name, origin in modules.items() if bound[name] == 1},
            {name: origin for name, origin in members.items() if bound[name] == 1},
        )

    def grown(self, rewrite: Rewrite) -> Source:
        """Return the source that a further rewrite of the same function must respect."""
        text = "\n".join((code(rewrite.function), *rewrite.prelude))
        prelude = (*self.prelude, *(line for line in rewrite.prelude if line not in self.prelude))
        return replace(self, words=self.words.union(_IDENTIFIER.findall(text)), prelude=prelude)

    def fresh(self, name: str, taken: Iterable[str] = ()) -> str:
        """Return a name that occurs nowhere in the module and is not taken: the wanted one, or with a number."""
        candidate, number, used = name, 2, self.words.union(taken)
        while candidate in used:
            candidate, number = f"{name}_{number}", number + 1
        return candidate

    def builtin(self, *names: str) -> bool:
        """Whether these names mean the built-ins throughout: never bound, and no star import may bring them."""
        return not any(self.bound[name] for name in (*names, "*"))

    def local_name(self, module: str) -> str | None:
        """Return what a module imported at the top is called here, if it is."""
        if self.bound["*"]:
            return None
        return next((local for local, origin in self.modules.items() if origin == module), None)


def _stored_outside_constructors(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        found.update(stored_by(node))
        if not isinstance(node, ast.FunctionDef) or node.name not in _CONSTRUCTORS:
            pending.extend(ast.iter_child_nodes(node))
    return found
