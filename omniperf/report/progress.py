"""Live progress on standard error: one line that changes on a terminal, plain timed lines where it is piped.

The line is redrawn only when an event comes, never from a timer: a thread that wakes while a sample is timed would
hold the interpreter just when the clock has to stop.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import unicodedata
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from omniperf.report.escape import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from omniperf.results.events import Emit, Event

_ERASE = "\r\x1b[2K"


@contextmanager
def progress(stream: TextIO | None = None) -> Iterator[Emit]:
    """Give a listener for an attempt's events, and tidy up the line when the block ends."""
    stream = sys.stderr if stream is None else stream
    if not (stream.isatty() and os.environ.get("TERM") != "dumb"):
        yield _plain_lines(stream)
        return
    live = _LiveLine(stream, colours="NO_COLOR" not in os.environ)
    try:
        yield live.show
    finally:
        live.close()


def _plain_lines(stream: TextIO) -> Callable[[Event], None]:
    def show(event: Event) -> None:
        if not event.data.get("transient"):
            print(f"{time.strftime('%H:%M:%S')} {event.phase:<10} {_described(event)}", file=stream, flush=True)

    return show


class _LiveLine:
    """The current phase on one changing line; each phase that is over stays above it with its time."""

    def __init__(self, stream: TextIO, *, colours: bool) -> None:
        self._stream = stream
        self._colours = colours
        self._key: tuple[object, str] | None = None
        self._text = ""
        self._started = 0.0

    def show(self, event: Event) -> None:
        key = (event.data.get("attempt"), event.phase)
        if key != self._key:
            self._finish()
            self._key, self._started = key, time.monotonic()
        self._text = _described(event)
        self._draw("…", "\x1b[36m")
        self._stream.flush()

    def close(self) -> None:
        self._finish()
        self._stream.flush()

    def _finish(self) -> None:
        if self._key is not None:
            self._draw("·", "\x1b[2m")
            self._stream.write("\n")
            self._key = None

    def _draw(self, mark: str, colour: str) -> None:
        assert self._key is not None
        seconds = f"{time.monotonic() - self._started:.1f} s"
        head = f"{mark} {self._key[1]:<10} "
        room = shutil.get_terminal_size().columns - len(head) - len(seconds) - 2
        painted = f"{colour}{head}\x1b[0m" if self._colours else head
        self._stream.write(f"{_ERASE}{painted}{_cut(self._text, room)}  {seconds}")


def _described(event: Event) -> str:
    """The message, with what the event says in numbers."""
    parts = [one_line(event.message), *_numbers(event.data)]
    attempt = event.data.get("attempt")
    return (f"{one_line(str(attempt))}: " if attempt else "") + " · ".join(part for part in parts if part)


def _numbers(data: Mapping[str, object]) -> Iterator[str]:
    if (step := data.get("step")) is not None:
        yield f"step {step}"
    if (pairs := data.get("pairs")) is not None:
        most = data.get("max_pairs")
        yield f"{pairs} of at most {most} pairs" if most else f"{pairs} pairs"
    speedup, low, high = (data.get(key) for key in ("speedup", "low", "high"))
    if isinstance(speedup, int | float):
        known = isinstance(low, int | float) and isinstance(high, int | float)
        yield f"{speedup:.3f}x" + (f" ({low:.3f} to {high:.3f})" if known else "")


def _cut(text: str, columns: int) -> str:
    """Cut a text so that it fills at most so many columns of a terminal."""
    used = 0
    for position, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            return text[: max(0, position - 1)] + "…"
    return text
