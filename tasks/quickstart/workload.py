"""The report on one morning's log: 7,500 requests of 2,500 clients."""

import random

from logtally import report

VISITS = 3
CLIENTS = 2500
NOISE = 60
ENDPOINTS = ["/", "/shop", "/shop/item", "/cart", "/checkout", "/api/v2/stock", "/search", "/about"]
WORDS = ["red", "blue", "shoes", "hat", "with", "the", "for", "winter", "rain", "coat", "and", "size", "42", "new"]
AGENTS = ["Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (Macintosh)", "curl/8.5.0", "tinybot/1.2"]


def line(rng, client, second):
    """One log line, a third of them with a search query."""
    target = rng.choice(ENDPOINTS)
    if rng.random() < 0.5:
        target += f"/{rng.randrange(100000)}"
    if second % 3 == 0:
        target += "?page=2&q=" + "+".join(rng.choices(WORDS, k=4)) + "%2C"
    method = rng.choices(["GET", "POST", "PUT"], [8, 2, 1])[0]
    status = rng.choices([200, 301, 404, 500, 503], [80, 5, 10, 3, 2])[0]
    stamp = f"2024-03-05T{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    millis = f"{rng.lognormvariate(3, 1):.1f}"
    size, agent = rng.randrange(99999), rng.choice(AGENTS)
    return f'{stamp} client={client} {method} {target} {status} {size} {millis}ms "{agent}"'


def setup(seed, clients=CLIENTS, visits=VISITS):
    """Every client comes equally often; who comes when, and for what, the seed says."""
    rng = random.Random(seed)
    visits = [f"{value:08x}" for value in rng.sample(range(2**32), clients)] * visits
    rng.shuffle(visits)
    lines = [line(rng, client, second) for second, client in enumerate(visits)]
    for _ in range(NOISE):
        lines.insert(rng.randrange(len(lines) + 1), f"worker {rng.randrange(8)} restarted")
    return "\n".join(lines) + "\n"


def run(log):
    return report(log)
