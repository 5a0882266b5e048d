"""The engine of this host: attempts are processes, forked from a launcher that has everything imported and ready."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from omniperf.errors import InfraError, OmniPerfError
from omniperf.gateway.process import Gateway
from omniperf.results.events import Event
from omniperf.settings import to_plain
from omniperf.sweep.engine import Ended, Said

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omniperf.results.events import Emit
    from omniperf.settings import Settings
    from omniperf.sweep.engine import Item, Report

_END_SECONDS = 2.0  # to end by themselves


class LocalEngine:
    """A launcher and its attempts. A context manager; when its process is gone, so are all of them."""

    def __init__(self, capacity: int, settings: Settings, emit: Emit) -> None:
        self.capacity, self._emit = capacity, emit
        self.gateway = Gateway()
        command = [sys.executable, "-m", "omniperf.sweep.launcher"]
        # In a session of its own: Ctrl-C on the terminal is the scheduler's to act upon.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env=os.environ.copy(),  # it is the harness: the keys of models are its own
            pass_fds=self.gateway.descriptors,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._buffer = b""
        first = {"settings": to_plain(settings), "parent": os.getpid(), "gateway": self.gateway.descriptors}
        self._tell(first)

    def prepare(self, items: Sequence[Item]) -> None:
        """Make ready what the attempts need, each task and each agent once. Raises what the launcher met."""
        self._tell({"prepare": [asdict(item) for item in items]})
        while True:
            for line in self._lines(None):
                if "refused" in line:
                    raise _error(line["refused"])
                if "prepared" in line:
                    return
                self._emit(Event(line["phase"], line["message"], line["data"]))

    def submit(self, item: Item) -> None:
        """Start an attempt."""
        self._tell({"run": asdict(item)})

    def reports(self, seconds: float | None) -> list[Report]:
        """What happened since the last call; waits that long for the first."""
        return [
            Ended(line["id"], line["how"])
            if "how" in line
            else Said(line["id"], line["phase"], line["message"], line["data"])
            for line in self._lines(seconds)
        ]

    def close(self) -> None:
        """End the launcher and all that it runs, attempts and programs of the host alike. The gateway goes last."""
        group, deadline = self._process.pid, time.monotonic() + _END_SECONDS
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(group, signal.SIGTERM)  # git takes its locks away
            while time.monotonic() < deadline:
                self._process.poll()
                os.killpg(group, 0)
                time.sleep(0.01)
            os.killpg(group, signal.SIGKILL)
        self._process.wait()
        self.gateway.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _tell(self, message: dict[str, Any]) -> None:
        """Write a line, and read meanwhile: with both pipes full, each side would wait for the other."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pipe, line = self._process.stdin.fileno(), json.dumps(message).encode() + b"\n"
        while line:
            readable, writable, _ = select.select([self._process.stdout], [pipe], [])
            if readable:
                self._read()
            if writable:
                try:
                    line = line[os.write(pipe, line) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    raise self._died() from None

    def _lines(self, seconds: float | None) -> list[dict[str, Any]]:
        assert self._process.stdout is not None
        deadline = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            out, came = self._process.stdout.fileno(), [self.gateway.fileno()] if self.gateway.idle else []
            readable, _, _ = select.select([out, *came], [], [], left)
            if not readable:
                return []
            if out in readable:
                self._read()
            else:  # an attempt has come to the gateway
                self.gateway.serve()
        whole, _, self._buffer = self._buffer.rpartition(b"\n")
        return [json.loads(line) for line in whole.split(b"\n")]

    def _read(self) -> None:
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 1 << 16)
        if not data:
            raise self._died()
        self._buffer += data

    def _died(self) -> InfraError:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return InfraError("spawn", f"The launcher of the attempts ended ({how}).", "Go on with `omniperf resume`.")

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _error(said: dict[str, Any]) -> OmniPerfError:
    """The launcher's error, with the exit code that it had."""
    error = OmniPerfError(said["message"], said["remedy"], output=said["output"])
    error.exit_code = said["exit_code"]
    return error
