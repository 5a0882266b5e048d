"""Secrets kept out of all that is written or shown: keys of this process, passwords in URLs, what looks like a key.

`known` takes out this process's own secrets, however they are spelt, and alters nothing else: for patches and prompts,
whose bytes are hashed. `clean` also takes out what looks like anybody's: for records, logs and the screen.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import re
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HIDDEN = "***"

_VARIABLES = re.compile(r"(?:.*_)?(?:API_?KEY|ACCESS_KEY|TOKEN|SECRET|PASSWORD)", re.IGNORECASE)
_LEAST, _LEAST_BY_NAME = 8, 16  # characters: anything shorter is a word or a placeholder, and stands in honest texts
_LONG, _PIECE = 32, 8  # characters of a spelling that is looked for by its pieces, and of a piece
_PR_SET_DUMPABLE = 4

# What must be in the text in lower case, which is looked for first since it is so much faster; the shape; what is left.
_SHAPES = tuple(
    (mark, re.compile(shape, re.ASCII | re.IGNORECASE), kept + HIDDEN)
    for mark, shape, kept in (
        # A password may hold what should have been escaped, an @ too; what follows a port is a path, whatever is in it.
        ("://", r"(?<=://)[^\s/?#:[\"'\\<>]{0,200}:(?!\d{1,5}[/?#])[^\s@\"'\\<>]{1,200}(?:@[^\s/?#@\"'\\<>]{1,200}){0,9}(?=@[\w.[-])", ""),
        ("://", r"(?<=[ps]://)[^\s/?#@\"'\\<>]+(?=@)", ""),
        ("=", r"([?&](?:password|passwd|pwd)=)[^\s&#\"'\\<>]+", r"\1"),
        ("secret_access_key", r"(secret_access_key[\"'\\]{0,4}\s?[:=]\s?[\"'\\]{0,4})[a-z0-9/+=]{16,}", r"\1"),
        ("bearer ", r"(bearer )(?=[a-z_.~+/=-]{0,60}\d)[\w.~+/=-]{16,}", r"\1"),
        ("authorization", r"(authorization[\"'\\]*\s?[:=]\s?[\"'\\]*(?:bearer|basic|token)\s)[\w.~+/=-]+", r"\1"),
        ("api", r"((?<![a-z0-9])(?:x[_-])?api[_-]key[\"'\\]*\s?[:=]\s?[\"'\\]*)(?![a-z_]\w{0,60}(?:\.[a-z_]\w{0,60}){0,9}\()(?=[\w.~+/=-]{0,60}\d)[\w.~+/=-]{12,}", r"\1"),
        ("x-api-key", r"(x-api-key[\"'\\]*\s?[:=]\s?[\"'\\]*)(?![a-z_]+[.(])[\w.~+/=-]{8,}", r"\1"),
        ("sk-", r"(?<![a-z0-9])sk-(?:\w{1,40}-){0,8}(?=[a-z_]{0,60}\d)\w{12,}[\w-]*", ""),
        ("eyj", r"(?<![\w-])(?-i:eyJ)[\w-]{8,}\.(?-i:eyJ)[\w-]{8,}\.[\w-]{8,}", ""),
        ("gsk_", r"(?<![a-z0-9])gsk_[a-z0-9]{20,}", ""),
        ("npm_", r"(?<![a-z0-9])npm_[a-z0-9]{30,}", ""),
        ("pypi-", r"(?<![a-z0-9])pypi-(?-i:AgE)[\w-]{16,}", ""),
        ("xai-", r"(?<![a-z0-9])xai-(?=[a-z]{0,60}\d)[a-z0-9]{20,}", ""),
        ("gh", r"(?<![a-z0-9])(?:gh[pousr]_|github_pat_)\w{20,}", ""),
        ("hf_", r"(?<![a-z0-9])hf_[a-z0-9]{30,}", ""),
        ("xox", r"(?<![a-z0-9])xox[abprs]-[\w-]{10,}", ""),
        ("glpat-", r"(?<![a-z0-9])glpat-[\w-]{20,}", ""),
        ("akia", r"(?<![a-z0-9])AKIA[0-9A-Z]{16}(?![a-z0-9])", ""),
        ("asia", r"(?<![a-z0-9])(?-i:ASIA[0-9A-Z]{16})(?![a-z0-9])", ""),
        ("aiza", r"(?<![a-z0-9])AIza[\w-]{35}", ""),
    )
)


def known(text: str) -> str:
    """The text without the secrets of this process: as they are, in base64 wherever it begins, in URLs, in hex, back to front."""
    for form in _known().perhaps_in(text):
        text = text.replace(form, HIDDEN)
    return text


def clean(text: str) -> str:
    """The text without the secrets of this process, nor anything that looks like a key or a password in a URL."""
    text = known(text)
    lower = text.lower()
    for mark, shape, left in _SHAPES:
        if mark in lower:
            text = shape.sub(left, text)
    return text


def learn(secret: str) -> None:
    """Take that secret out from now on, and let no other process read this one's memory or environment, nor a core file.

    Root may all the same. A secret too short to be one is not taken out.
    """
    _known().add(_forms(secret, _LEAST))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def forget(secret: str) -> None:
    """Leave that secret in again, which is worthless by now: what is looked for must not grow with what was done."""
    _known().drop(_forms(secret, _LEAST))


def keyless() -> dict[str, str]:
    """This process's environment without keys: what programs of the host are started with."""
    return {name: value for name, value in os.environ.items() if not _VARIABLES.fullmatch(name) and known(value) == value}


class _Known:
    """All that is replaced. One thread at a time changes it, while others look.

    There may be hundreds of spellings, each of which takes as long to look for as all of this: of the long ones every
    piece is kept, and of a text so many pieces are looked up that one lies in any long spelling, wherever that is.
    """

    def __init__(self) -> None:
        self._forms: dict[str, None] = {}
        self._short: dict[str, None] = {}
        self._pieces: dict[str, int] = {}  # and how many spellings have them

    def perhaps_in(self, text: str) -> tuple[str, ...]:
        """Those of which any may be in a text: all others are not."""
        step = _LONG - _PIECE + 1
        none = self._pieces.keys().isdisjoint(text[at : at + _PIECE] for at in range(0, len(text), step))
        return tuple(self._short if none else self._forms)

    def add(self, forms: Iterable[str]) -> None:
        for form in forms:
            if form not in self._forms:
                for piece in _pieces(form):
                    self._pieces[piece] = self._pieces.get(piece, 0) + 1
                if len(form) < _LONG:
                    self._short[form] = None
                self._forms[form] = None

    def drop(self, forms: Iterable[str]) -> None:
        for form in forms:
            if form in self._forms:
                del self._forms[form]
                self._short.pop(form, None)
                for piece in _pieces(form):
                    self._pieces[piece] -= 1
                    if not self._pieces[piece]:
                        del self._pieces[piece]


def _pieces(form: str) -> Iterator[str]:
    """The pieces of a long spelling, wherever in it they begin."""
    if len(form) >= _LONG:
        for at in range(len(form) - _PIECE + 1):
            yield form[at : at + _PIECE]


@cache
def _known() -> _Known:
    """At first what the environment holds."""
    known = _Known()
    for name, value in os.environ.items():
        if _VARIABLES.fullmatch(name) and not value.startswith("/"):
            known.add(_forms(value, _LEAST_BY_NAME))
    return known


def _forms(secret: str, least: int) -> Iterator[str]:
    secret = secret.strip()
    if len(secret) < least or secret.isdigit():  # a number in a JSON file must stay one
        return
    data = secret.encode("utf-8", "surrogateescape")
    yield secret
    yield from (data.decode("latin-1"), json.dumps(secret)[1:-1], quote(data, safe=""), quote_plus(data), secret[::-1])
    yield from (data.hex(), data.hex().upper(), *("".join(f"%{byte:{case}}" for byte in data) for case in ("02x", "02X")))
    for before in range(3):  # the same bytes have three spellings, by where in a longer text they begin
        text = base64.b64encode(bytes(before) + data).decode()
        inner = text[(8 * before + 5) // 6 : 8 * (before + len(data)) // 6]
        yield inner
        yield inner.translate(str.maketrans("+/", "-_"))
