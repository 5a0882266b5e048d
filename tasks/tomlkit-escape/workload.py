"""A document of long plain values and some short ones that need escapes."""

import random

import tomlkit

PLAIN = "abcdefghijklmnopqrstuvwxyz 0123456789 .,:;-_/()ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPECIAL = '"\\\t\n\r\b\f\x01\x1f\x7f'


def setup(seed):
    rng = random.Random(seed)
    values = {f"text{i}": "".join(rng.choices(PLAIN, k=4000)) for i in range(14)}
    for i in range(20):
        characters = rng.choices(PLAIN, k=150) + rng.choices(SPECIAL, k=10)
        rng.shuffle(characters)
        values[f"note{i}"] = "".join(characters)
    return values


def run(values):
    document = tomlkit.document()
    for name, value in values.items():
        document[name] = value
    return tomlkit.dumps(document)
