"""Domain names of several scripts, most of them ASCII, encoded and decoded; a few of them are not allowed."""

import random

import idna
import idna.uts46data  # which idna itself imports at its first use

NAMES = 2750
ALPHABETS = {
    "latin": "abcdefghijklmnopqrstuvwxyz0123456789",
    "german": "abcdefghijklmnopqrstuvwxyzäöüß",
    "cyrillic": "абвгдежзиклмнопрстуфхцчшщыэюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "chinese": "中文域名网站公司北京上海新闻天气电影音乐图书学校医院银行",
}
SCRIPTS = ["latin"] * 6 + ["german", "cyrillic", "greek", "hebrew", "chinese"]
FORBIDDEN = ["a_b", "-start", "end-", "ab--cd", "sp ace", "\u0301x", "\u2665", "a\u05d0"]


def label(rng, script, size):
    return "".join(rng.choices(ALPHABETS[script], k=size))


def setup(seed):
    """Names of three labels; a tenth is partly in upper case, every fiftieth has a label that is not allowed."""
    rng = random.Random(seed)
    names = []
    for number in range(NAMES):
        script = SCRIPTS[number % len(SCRIPTS)]
        size = 6 if script == "chinese" else 14
        labels = [label(rng, script, size - 4), label(rng, script, size), rng.choice(["example", "com", "org"])]
        if number % 10 == 0:
            labels[1] = labels[1].upper()
        if number % 50 == 7:
            labels[0] = rng.choice(FORBIDDEN)
        names.append(".".join(labels))
    return names


def run(names):
    """For each name its encoded form and what that decodes to, or the reason why it has none."""
    results = []
    for name in names:
        try:
            encoded = idna.encode(name, uts46=True)
            results.append((encoded, idna.decode(encoded)))
        except idna.IDNAError as error:
            results.append((type(error).__name__, str(error)))
    return results
