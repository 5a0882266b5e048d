"""Queries that ask for the same fields with arguments many times, and one with fields that conflict."""

import random

from graphql import build_schema, parse, validate
from graphql.validation.rules.overlapping_fields_can_be_merged import OverlappingFieldsCanBeMergedRule

SCHEMA = """
type Item { id: ID, name(upper: Boolean, limit: Int): String }
type Query { item(id: Int, tag: String, sizes: [Int!]): Item, count(since: Int, kinds: [String!]): Int, ping: Int }
"""
REPEATS = 22
PINGS = 60
CONFLICTS = 3


def query(rng, conflicts):
    """A query that repeats three fields; in some of the repetitions an argument differs."""
    number, since, limit = rng.randrange(10**6), rng.randrange(10**6), rng.randrange(10, 99)
    sizes = [rng.randrange(100, 999) for _ in range(4)]
    item = f'item(id: {number}, tag: "t{number}", sizes: {sizes}) {{ id name(upper: true, limit: {limit}) }}'
    count = f'count(kinds: ["k{since}", "new"], since: {since})'
    fields = [item] * (REPEATS // 2) + [count] * REPEATS + ["ping"] * PINGS
    fields += [f'count(since: {since}, kinds: ["k{i}"])' for i in range(conflicts)]
    rng.shuffle(fields)
    return "query {\n  " + "\n  ".join(fields) + "\n}\n"


def setup(seed):
    rng = random.Random(seed)
    return build_schema(SCHEMA), [parse(query(rng, conflicts)) for conflicts in (0, CONFLICTS)]


def run(state):
    schema, documents = state
    return [
        [
            (error.message, [(location.line, location.column) for location in error.locations])
            for error in validate(schema, document, [OverlappingFieldsCanBeMergedRule], max_errors=10**6)
        ]
        for document in documents
    ]
