"""Many flows on one residual network: a Gomory-Hu tree of a sparse graph, and the node connectivity of another."""

import random

import networkx as nx
from networkx.algorithms.flow import edmonds_karp

TREE_NODES, TREE_EDGES = 60, 130
NODES, DEGREE = 40, 4


def setup(seed):
    """A connected graph with capacities, and a random regular one of which some edges are gone."""
    rng = random.Random(seed)
    graph = nx.Graph()
    order = list(range(TREE_NODES))
    rng.shuffle(order)
    pairs = [(rng.choice(order[:i]), order[i]) for i in range(1, TREE_NODES)]
    while len(pairs) < TREE_EDGES:
        pairs.append(tuple(rng.sample(order, 2)))
    for u, v in pairs:
        graph.add_edge(u, v, capacity=rng.randrange(1, 10**6))
    regular = nx.random_regular_graph(DEGREE, NODES, seed=rng.randrange(10**9))
    regular.remove_edges_from(rng.sample(sorted(regular.edges), 3))
    return graph, regular


def run(state):
    graph, regular = state
    tree = nx.gomory_hu_tree(graph, flow_func=edmonds_karp)
    cuts = sorted((min(u, v), max(u, v), weight) for u, v, weight in tree.edges(data="weight"))
    return cuts, nx.node_connectivity(regular, flow_func=edmonds_karp)
