"""Positions in the lexicographic order of short permutations of long sequences, and of some full permutations."""

import random
from math import perm

from more_itertools import nth_permutation

SHAPES = [(900, 3), (1200, 5), (1500, 4), (700, 9), (40, 40)]
ROUNDS = 50


def setup(seed):
    """Positions in the upper half of the order; a third of them are given from the end."""
    rng = random.Random(seed)
    queries = []
    for length, chosen in SHAPES * ROUNDS:
        count = perm(length, chosen)
        position = rng.randrange(count // 2, count)
        queries.append((range(7, 7 + length), chosen, position - count if len(queries) % 3 == 0 else position))
    return queries


def run(queries):
    return [nth_permutation(items, chosen, position) for items, chosen, position in queries]
