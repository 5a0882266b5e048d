"""The prompts of the earlier system, which lie beside the repository and not in it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

_MOJIBAKE = "\u00e2\u2020\u2019"  # an arrow whose UTF-8 was read as Windows-1252


@dataclass(frozen=True)
class Seed:
    """A prompt as it was sent, and the folder that it names as the checkout."""

    text: bytes
    workspace: str


# Which seed each task is of.
SEEDS = {"seed-vllm-0003": "000", "seed-vllm-0001": "001", "seed-vllm-0016": "002", "seed-sglang-0060": "004"}


def seed(task_id: str) -> Seed:
    """Read the prompt of a task; skip the test where the seeds are not at hand."""
    shared = Path(os.environ.get("OMNIPERF_SHARED", Path(__file__).parents[2] / "shared"))
    found = sorted((shared / "seeds").glob(f"{SEEDS[task_id]}_*.txt"))
    if not found:
        pytest.skip("the seed prompts are not at hand: name the folder that has seeds/ in OMNIPERF_SHARED")
    text = found[0].read_bytes().decode()
    if task_id == "seed-sglang-0060":  # a log: a header, the prompt, a transcript
        end = "NO MORE ANALYSIS.\n"
        text = text[text.index("I've uploaded") : text.index(end) + len(end)]
    if task_id == "seed-vllm-0003":
        assert text.count(_MOJIBAKE) == 1
        text = text.replace(_MOJIBAKE, "\u2192")
    named = re.search(r"in the directory (\S+)\.\n", text)
    assert named is not None
    return Seed(text.encode(), named[1])
