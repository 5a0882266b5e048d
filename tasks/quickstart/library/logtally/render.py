"""The report as text."""

from logtally.parse import parse_log
from logtally.tally import Tally, share


def bar(percent, width=20):
    """Return a bar of hash signs, padded with dots to the width."""
    full = round(percent / 100.0 * width)
    return "#" * full + "." * (width - full)


def table(rows, heads):
    """Return rows of cells as lines of aligned columns."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    text = ""
    for row in [heads, *rows]:
        line = ""
        for cell, width in zip(row, widths):
            line += cell.ljust(width) + "  "
        text += line.rstrip() + "\n"
    return text


def client_list(clients):
    """Return the clients, numbered, one a line."""
    text = ""
    number = 0
    for client in clients:
        number += 1
        text += str(number).rjust(6)
        text += "  "
        text += client
        text += "\n"
    return text


def report(text, top=10):
    """Return the report on a log."""
    entries, skipped = parse_log(text)
    tally = Tally()
    tally.add_all(entries)
    out = f"{tally.requests} requests, {tally.bytes} bytes, {skipped} lines skipped, {tally.failures():.2f} % failed\n\n"
    for status in sorted(tally.by_status):
        number = tally.by_status[status]
        percent = share(number, tally.requests)
        out += f"{status} {bar(percent)} {number}\n"
    out += "\n" + table(tally.top_words(top), ["word", "times"])
    rows = [
        (endpoint, number, f"{fastest:.1f}", f"{median:.1f}", f"{slowest:.1f}")
        for endpoint, number, fastest, median, slowest in tally.latency()
    ]
    out += "\n" + table(rows, ["endpoint", "requests", "fastest", "median", "slowest"])
    out += f"\n{len(tally.clients)} clients\n" + client_list(tally.clients)
    return out
