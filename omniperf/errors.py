"""Errors for people: one sentence that says what is wrong, one that says what to do."""

from __future__ import annotations

_OUTPUT = 4000  # characters


class OmniPerfError(Exception):
    """An expected failure, shown without a traceback.

    `exit_code` follows the command line's contract: 1 failed, 2 usage, 3 a gate was not met, 130 interrupted. `output`
    is the end of what a program printed before it failed, many lines of it perhaps.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "", *, output: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.output = output.strip()[-_OUTPUT:]

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class UsageError(OmniPerfError):
    """The command line, a configuration file or a task file is not as it must be."""

    exit_code = 2


class InfraError(OmniPerfError):
    """The host, the network or a tool failed; never the agent's fault.

    `kind` is one of the infra kinds of `omniperf.results.schema.InfraKind`.
    """

    def __init__(self, kind: str, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.kind = kind
