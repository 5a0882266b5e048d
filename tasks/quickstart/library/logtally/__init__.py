"""Tally the access log of a small web service."""

from logtally.parse import Entry, parse_line, parse_log
from logtally.render import report
from logtally.tally import Tally, distinct
from logtally.words import query_words, words

__all__ = ["Entry", "Tally", "distinct", "parse_line", "parse_log", "query_words", "report", "words"]
