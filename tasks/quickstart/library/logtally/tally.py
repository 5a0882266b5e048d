"""Counting entries."""

from logtally.words import query_words


def distinct(values):
    """Return the different values, in the order in which they first appear."""
    seen = []
    for value in values:
        if value not in seen:
            seen.append(value)
    return seen


def share(part, whole):
    """Return part of whole in percent, 0 for nothing of nothing."""
    return 100.0 * part / whole if whole else 0.0


class Tally:
    """What a log adds up to."""

    def __init__(self):
        self.requests = 0
        self.bytes = 0
        self.by_status = {}
        self.by_word = {}
        self.by_endpoint = {}
        self.clients = []

    def add_all(self, entries):
        """Count entries."""
        for entry in entries:
            self.requests += 1
            self.bytes += entry.size
            self.by_status[entry.status] = self.by_status.get(entry.status, 0) + 1
            self.by_endpoint.setdefault(entry.endpoint, []).append(entry.millis)
            for word in query_words(entry.query):
                self.by_word[word] = self.by_word.get(word, 0) + 1
        self.clients = distinct(self.clients + [entry.client for entry in entries])

    def top_words(self, count):
        """Return the most frequent search words with their counts; ties in alphabetical order."""
        return sorted(self.by_word.items(), key=lambda item: (-item[1], item[0]))[:count]

    def failures(self):
        """Return the share of requests that the server failed to answer, in percent."""
        failed = 0
        for status, number in self.by_status.items():
            if status in [500, 501, 502, 503, 504]:
                failed += number
        return share(failed, self.requests)

    def latency(self):
        """Return a row (endpoint, requests, fastest, median, slowest) for each endpoint, the busiest first."""
        rows = []
        for endpoint, millis in self.by_endpoint.items():
            fastest = sorted(millis)[0]
            slowest = sorted(millis)[-1]
            median = sorted(millis)[len(millis) // 2]
            rows.append((endpoint, len(millis), fastest, median, slowest))
        rows.sort(key=lambda row: (-row[1], row[0]))
        return rows
