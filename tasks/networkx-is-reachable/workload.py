"""Reachability queries on tournaments whose nodes fall into leagues: who is in a higher one beats all below."""

import random
from itertools import combinations

import networkx as nx

TOURNAMENTS = 4
LEAGUES = 3
MEMBERS = 11
QUERIES = 2


def tournament(rng):
    """Inside a league every duel is a coin toss."""
    nodes = list(range(LEAGUES * MEMBERS))
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    rng.shuffle(nodes)
    for (i, a), (j, b) in combinations(enumerate(nodes), 2):
        down = i // MEMBERS < j // MEMBERS or rng.random() < 0.5
        graph.add_edge(*((a, b) if down else (b, a)))
    return graph


def setup(seed):
    """The queries are between any two nodes."""
    rng = random.Random(seed)
    queries = []
    for _ in range(TOURNAMENTS):
        graph = tournament(rng)
        queries += [(graph, *rng.sample(sorted(graph), 2)) for _ in range(QUERIES)]
    return queries


def run(queries):
    return [nx.tournament.is_reachable(graph, source, target) for graph, source, target in queries]
