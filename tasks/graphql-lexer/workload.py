"""Parsing documents of many operations with long names."""

import random

from graphql import parse

OPERATIONS = 150
WORDS = ["account", "payment", "shipping", "Address", "Customer", "identifier", "Preview", "latest", "Version", "total"]


def name(rng):
    return "".join(rng.choice(WORDS) for _ in range(4)) + f"_{rng.randrange(10**4)}"


def operation(rng):
    variable, argument = name(rng), name(rng)
    fields = " ".join(name(rng) for _ in range(4))
    return (
        f"query {name(rng)}(${variable}: Int = {rng.randrange(10**6)}) "
        f"{{ {name(rng)}({argument}: ${variable}, limit: {rng.randrange(99)}) {{ {fields} }} }}"
    )


def setup(seed):
    rng = random.Random(seed)
    return "\n".join(operation(rng) for _ in range(OPERATIONS))


def run(text):
    """The names of every operation, its field and the fields below."""
    found = []
    for definition in parse(text, no_location=True).definitions:
        field = definition.selection_set.selections[0]
        below = [each.name.value for each in field.selection_set.selections]
        found.append((definition.name.value, field.name.value, below))
    return found
