"""Which arm runs first, and on which inputs: a coin and seeds that no candidate can foresee.

Both come from a secret drawn when verifying, committed to by its hash before measuring and revealed after, so that
anyone can check the order and the inputs, and nobody could have known them. HMAC-SHA256 (RFC 2104) serves as the
pseudorandom function.
"""

from __future__ import annotations

import hmac
from typing import Literal

ArmOrder = Literal["ABBA", "BAAB"]


def arm_order(secret: bytes, run_id: str, block: int) -> ArmOrder:
    """The order of the four runs of one block, which are two pairs: A is the base, B the candidate.

    Either order gives each arm the first place of a pair once and the second once, so that a bias of place and a linear
    drift cancel within the block; the coin hides from the candidate which place it has.

    Raises `ValueError` where `secret` is empty or `block` is negative.
    """
    if block < 0:
        raise ValueError(f"blocks count from 0, not {block}")
    return "ABBA" if _draw(_secret_key(secret), f"{run_id}:{block}") & 1 else "BAAB"


def seeds(secret: bytes, run_id: str, pair: int, count: int) -> list[int]:
    """`count` workload seeds, each 0 to 2**63 - 1, for one pair; its two arms share them.

    Raises `ValueError` where `secret` is empty or `pair` or `count` is negative.
    """
    if pair < 0 or count < 0:
        raise ValueError(f"pairs and seeds count from 0; asked for {count} seeds of pair {pair}")
    # A key of their own keeps the seeds from repeating the order's bits, whatever the run is called.
    key = hmac.digest(_secret_key(secret), b"seeds", "sha256")
    return [_draw(key, f"{run_id}:{pair}:{index}") >> 1 for index in range(count)]


def _secret_key(secret: bytes) -> bytes:
    if not secret:
        raise ValueError("the secret is empty, so the order and the inputs could be foreseen")
    return secret


def _draw(key: bytes, label: str) -> int:
    """64 bits that only the key's holder can know."""
    return int.from_bytes(hmac.digest(key, label.encode(), "sha256")[:8], "big")
