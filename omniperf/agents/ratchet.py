"""Keeping the best: a commit that screened well is not lost when what came after it is worse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from omniperf.agents.protocol import Screening
    from omniperf.workspace.patch import Patch


@dataclass
class Ratchet:
    """The states of the tree that were screened against base, by tree hash. A state's last screening counts."""

    _screened: dict[str, tuple[Patch, Screening]] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)

    def saw(self, patch: Patch, screening: Screening) -> None:
        """Remember a screening."""
        self._screened[patch.tree] = patch, screening

    def tested(self, patch: Patch, *, passed: bool) -> None:
        """Remember that a state passes or fails the tests: one that fails is not the best of anything."""
        (self._failed.discard if passed else self._failed.add)(patch.tree)

    def knows(self, patch: Patch) -> bool:
        """Whether a state was screened, or fails the tests: nothing is left to ask."""
        return patch.tree in self._screened or patch.tree in self._failed

    @property
    def candidates(self) -> dict[str, Patch]:
        """What could be the best: screened faster, its outputs base's, its tests not failing."""
        return {
            tree: patch
            for tree, (patch, screening) in self._screened.items()
            if tree not in self._failed and _faster(screening) and patch.files
        }

    def best(self, committed: Collection[str]) -> Patch | None:
        """The candidate among the committed states whose speedup is surest."""
        found = [patch for tree, patch in self.candidates.items() if tree in committed]
        return max(found, key=lambda patch: self._screened[patch.tree][1].low) if found else None

    def prefers(self, best: Patch, final: Patch) -> bool:
        """Whether to confirm the best instead of the final state, which is worse, failed, or could not be screened."""
        if best.tree == final.tree:
            return False
        if final.tree not in self._screened or final.tree in self._failed:
            return True
        screening = self._screened[final.tree][1]
        return not _faster(screening) or screening.speedup < self._screened[best.tree][1].low


def _faster(screening: Screening) -> bool:
    return screening.decision == "faster" and screening.outputs_equal
