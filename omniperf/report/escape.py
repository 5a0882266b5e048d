"""Text of others, made safe to show: agents, patches and logs may hold anything, terminal commands included."""

from __future__ import annotations

import json
import re

from omniperf.results.redact import clean

_SEQUENCES = re.compile(
    r"""
    (?:\x1b\[|\x9b) [0-?]* [ -/]* [@-~]                      # CSI: colours, cursor, erase
  | (?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])                     # OSC, DCS, SOS, PM, APC: titles, links
    [^\x07\x1b\x90\x98\x9c-\x9f]* (?:\x07|\x1b\\|\x9c)       # not beyond where another begins: that took for ever
  | \x1b [ -/]* [0-~]                                        # the short ones: reset, charset
    """,
    re.VERBOSE,
)
# Controls but newline and tab; marks that reorder text or are not seen, so that it looks like another; surrogates.
_UNSHOWABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)


def plain(text: str) -> str:
    """Return the text without terminal sequences; what else cannot be shown safely is written as its escape."""
    return visible(_SEQUENCES.sub("", text).replace("\r\n", "\n"))


def visible(text: str) -> str:
    r"""Return the text without secrets, every character that cannot be shown safely being its escape, such as `\x1b`.

    For patches, where a reader has to see that the character is there.
    """
    return _UNSHOWABLE.sub(lambda found: _escaped(found[0]), clean(text))


def safe_json(text: str) -> str:
    """Return the same JSON without secrets, and with escapes for all that a terminal might obey."""
    return _UNSHOWABLE.sub(lambda found: json.dumps(found[0])[1:-1], clean(text))


def one_line(text: str) -> str:
    """Return `plain` text with all white space, newlines included, folded into single spaces."""
    return " ".join(plain(text).split())


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that was not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
