"""Shortest paths from nodes of a dense graph, and from and to nodes of a sparse directed graph."""

import random
from itertools import combinations, pairwise, permutations

import networkx as nx

DENSE_NODES, DENSE_EDGES, DENSE_SOURCES = 220, 9600, 180
SPARSE_NODES, SPARSE_EDGES, SPARSE_ENDS = 500, 3000, 12


def setup(seed):
    """Two random graphs of a fixed number of edges; a ring through the sparse one lets every node reach every other."""
    rng = random.Random(seed)
    dense = nx.Graph()
    dense.add_nodes_from(range(DENSE_NODES))
    dense.add_edges_from(rng.sample(list(combinations(range(DENSE_NODES), 2)), DENSE_EDGES))
    sparse = nx.DiGraph()
    sparse.add_nodes_from(range(SPARSE_NODES))
    sparse.add_edges_from((node, (node + 1) % SPARSE_NODES) for node in range(SPARSE_NODES))
    sparse.add_edges_from(rng.sample(list(permutations(range(SPARSE_NODES), 2)), SPARSE_EDGES))
    ends = rng.sample(range(SPARSE_NODES), SPARSE_ENDS)
    edges = [{(a, b) for u, v in dense.edges for a, b in [(u, v), (v, u)]}, set(sparse.edges)]
    return dense, rng.sample(range(DENSE_NODES), DENSE_SOURCES), sparse, ends, edges


def run(state):
    dense, sources, sparse, ends, edges = state
    return (
        edges,
        [(node, nx.single_source_shortest_path(dense, node)) for node in sources],
        [(node, nx.single_source_shortest_path(sparse, node)) for node in ends],
        [(node, nx.single_target_shortest_path(sparse, node)) for node in ends],
    )


def lengths(found, edges, back=False):
    """The number of edges of the path of each node; every path must begin and end right and run along edges."""
    node, paths = found
    measured = []
    for other, path in sorted(paths.items()):
        steps = list(pairwise(path))
        ends = (other, node) if back else (node, other)
        assert (path[0], path[-1]) == ends and all(step in edges for step in steps), f"{path} is no path of {ends}"
        measured.append((other, len(steps)))
    return node, measured


def export(output):
    """Any shortest path will do: only the lengths are compared, of paths that are paths."""
    (dense, sparse), many, forth, back = output
    return [
        [lengths(found, dense) for found in many],
        [lengths(found, sparse) for found in forth],
        [lengths(found, sparse, back=True) for found in back],
    ]
