"""Paragraphs of names with underscores and of escaped asterisks, and a document of ordinary paragraphs."""

import random
import string

from markdown_it import MarkdownIt

NAMES = 5000
ESCAPED = 9000
PARAGRAPHS = 12


def word(rng):
    return "".join(rng.choices(string.ascii_lowercase, k=8))


def setup(seed):
    rng = random.Random(seed)
    names = " ".join(f"{word(rng)}_{word(rng)}_{word(rng)}" for _ in range(NAMES // 2))
    escaped = "\\* ".join(word(rng) for _ in range(ESCAPED))
    ordinary = "\n\n".join(
        " ".join([word(rng), f"*{word(rng)}*", f"`{word(rng)}`", f"[{word(rng)}](/{word(rng)})"] * 4)
        for _ in range(PARAGRAPHS)
    )
    return [names, escaped, ordinary]


def run(documents):
    markdown = MarkdownIt("commonmark")
    return [markdown.render(document) for document in documents]
