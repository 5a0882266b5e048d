"""Shortest routes along a long, narrow grid and across a square one."""

import random

import networkx as nx

LONG = (3, 1500)
SQUARE = (30, 30)
LONG_ROUTES = 8
SQUARE_ROUTES = 10
LIGHTEST, HEAVIEST = 7 * 10**8, 10**9  # such large numbers that two routes of one length do not occur


def grid(rng, rows, columns):
    """A grid of which every edge has a random weight; the node at (row, column) is row * columns + column."""
    graph = nx.Graph()
    for node in range(rows * columns):
        row, column = divmod(node, columns)
        if column + 1 < columns:
            graph.add_edge(node, node + 1, weight=rng.randrange(LIGHTEST, HEAVIEST))
        if row + 1 < rows:
            graph.add_edge(node, node + columns, weight=rng.randrange(LIGHTEST, HEAVIEST))
    return graph


def setup(seed):
    rng = random.Random(seed)
    rows, columns = LONG
    long = grid(rng, rows, columns)
    square = grid(rng, *SQUARE)
    queries = [
        (long, rng.randrange(rows) * columns + i, rng.randrange(rows) * columns + columns - 1 - i)
        for i in range(LONG_ROUTES)
    ]
    corner = SQUARE[0] * SQUARE[1] - 1
    queries += [(square, rng.randrange(5), corner - rng.randrange(5)) for _ in range(SQUARE_ROUTES)]
    return queries


def run(queries):
    return [nx.bidirectional_dijkstra(graph, source, target) for graph, source, target in queries]
