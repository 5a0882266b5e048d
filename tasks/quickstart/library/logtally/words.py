"""Words of free text and of search queries."""

import re

STOP_WORDS = [
    "a", "about", "all", "an", "and", "any", "are", "as", "at", "be", "but", "by", "can", "do", "for", "from", "has",
    "have", "how", "if", "in", "is", "it", "its", "more", "my", "new", "no", "not", "of", "on", "one", "or", "our",
    "out", "so", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "to", "up", "was",
    "we", "were", "what", "when", "which", "who", "will", "with", "you", "your",
]


def words(text):
    """Return the words of a text in lower case, without stop words and one-letter words."""
    splitter = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
    found = []
    for word in splitter.findall(text.lower()):
        if len(word) > 1 and word not in STOP_WORDS:
            found.append(word)
    return found


def unquote(text):
    """Undo the plus signs and the %XX escapes of a query value; escapes that are not ones stay as they are."""
    out = ""
    position = 0
    while position < len(text):
        char = text[position]
        if char == "+":
            char = " "
        elif char == "%" and re.match(r"[0-9a-fA-F]{2}", text[position + 1 : position + 3]):
            char = chr(int(text[position + 1 : position + 3], 16))
            position += 2
        out += char
        position += 1
    return out


def query_words(query):
    """Return the words of the `q` parameters of a query string."""
    found = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name == "q":
            found.extend(words(unquote(value)))
    return found
