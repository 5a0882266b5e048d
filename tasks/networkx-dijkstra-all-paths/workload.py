"""All shortest paths from a node: on a square grid, and on a dense graph where many short hops are cheapest."""

import random

import networkx as nx

SIDE = 50
HOPS = 260
LIGHTEST, HEAVIEST = 10**8, 10**9  # such large numbers that two paths of one length do not occur


def setup(seed):
    rng = random.Random(seed)
    grid = nx.Graph()
    for node in range(SIDE * SIDE):
        if (node + 1) % SIDE:
            grid.add_edge(node, node + 1, weight=rng.randrange(LIGHTEST, HEAVIEST))
        if node + SIDE < SIDE * SIDE:
            grid.add_edge(node, node + SIDE, weight=rng.randrange(LIGHTEST, HEAVIEST))
    dense = nx.DiGraph()
    for i in range(HOPS):
        for j in range(i + 1, HOPS):
            dense.add_edge(i, j, weight=int((j - i) ** 1.5 * HEAVIEST) + rng.randrange(LIGHTEST))
    return [(grid, 0), (grid, SIDE * SIDE // 2 + SIDE // 2), (dense, rng.randrange(5))]


def run(queries):
    """Of every path its number of nodes and the one in the middle."""
    found = []
    for graph, source in queries:
        paths = nx.single_source_dijkstra_path(graph, source)
        found.append([(node, len(paths[node]), paths[node][len(paths[node]) // 2]) for node in sorted(paths)])
    return found
