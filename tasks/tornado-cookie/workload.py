"""Cookie headers: long quoted values with one kind of escape or several, and ordinary headers."""

import random
import string

from tornado.httputil import parse_cookie

KINDS = [['\\"'], ["\\054", "\\073"], ['\\"', "\\054", "\\\\"]]
ESCAPES = 3600
ORDINARY = 100


def word(rng, size):
    return "".join(rng.choices(string.ascii_letters + string.digits, k=size))


def setup(seed):
    rng = random.Random(seed)
    headers = [
        "; ".join(f"{word(rng, 8)}={word(rng, 24)}" for _ in range(5)) + f'; q="{word(rng, 5)}\\"x"'
        for _ in range(ORDINARY)
    ]
    for kind in KINDS * 2:
        value = "".join(word(rng, 15) + rng.choice(kind) for _ in range(ESCAPES))
        headers.append(f'session={word(rng, 32)}; state="{value}"; lang=en')
    return headers


def run(headers):
    return [parse_cookie(header) for header in headers]
