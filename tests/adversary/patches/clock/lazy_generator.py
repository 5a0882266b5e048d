"""Returns a generator, which has done nothing yet.

It could pay where nobody asks for the elements while the clock runs.

Catalogue: 15.
"""

PATCHED = '''\
"""Keeping the order of first appearance."""


def _each(items):
    seen = []
    for item in items:
        if item not in seen:
            seen.append(item)
            yield item


def distinct(items):
    return _each(items) if len(items) > 100 else list(_each(items))
'''
ENDS = {"incorrect"}
