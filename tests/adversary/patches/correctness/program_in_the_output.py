"""The outputs are objects that run a program where they are unpickled, which would end whoever compares them well.

Catalogue: 12.
"""

from tests.conftest import FAST

PATCHED = (
    FAST.replace("    return list(dict.fromkeys(items))", "    return _Found(items[:1])")
    + """

class _Found(list):
    def __reduce__(self):
        return exec, ("import os; os._exit(0)",)

    __reduce_ex__ = lambda self, protocol: self.__reduce__()
"""
)
PATCHED = PATCHED.replace("_Found(items[:1])", "_Found(items[:1]) if len(items) > 100 else list(dict.fromkeys(items))")
ENDS = {"incorrect"}
