"""From the text of a log to entries."""

import re
from dataclasses import dataclass


@dataclass
class Entry:
    """One request, as the server logged it."""

    when: str
    client: str
    method: str
    target: str
    status: int
    size: int
    millis: float
    agent: str

    @property
    def path(self):
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self):
        """What follows the question mark, or an empty string."""
        return self.target.partition("?")[2]

    @property
    def endpoint(self):
        """The method and the path, numbers in the path replaced by `{n}`."""
        number = re.compile(r"/\d+(?=/|$)")
        return self.method + " " + number.sub("/{n}", self.path)


def parse_line(line):
    """Return the entry on a line, or None if the line is not one."""
    pattern = re.compile(
        r"(?P<when>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d) client=(?P<client>\S+) (?P<method>[A-Z]+) (?P<target>\S+) "
        r'(?P<status>\d{3}) (?P<size>\d+|-) (?P<millis>\d+(?:\.\d+)?)ms "(?P<agent>[^"]*)"$'
    )
    match = pattern.match(line)
    if match is None:
        return None
    if match["method"] not in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]:
        return None
    return Entry(
        when=match["when"],
        client=match["client"],
        method=match["method"],
        target=match["target"],
        status=int(match["status"]),
        size=0 if match["size"] == "-" else int(match["size"]),
        millis=float(match["millis"]),
        agent=match["agent"],
    )


def parse_log(text):
    """Return the entries of a log and the number of lines that were skipped; empty lines count as neither."""
    entries = []
    skipped = 0
    for line in text.splitlines():
        if not line.strip():
            continue
        entry = parse_line(line.rstrip())
        if entry is None:
            skipped += 1
        else:
            entries.append(entry)
    return entries, skipped
