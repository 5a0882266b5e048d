"""Forms with binary files that have next to no line breaks, and a form with plain text, received in chunks."""

import hashlib
import random

from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

CHUNK = 8 * 1024
FILE_SIZE = 4_000_000
NO_BREAKS = bytes.maketrans(b"\r\n", b"\x0e\x0b")


def part(name, content, filename=None):
    """One part of a form, without the boundary before it."""
    kind = f'; filename="{filename}"\r\nContent-Type: application/octet-stream' if filename else ""
    return f'Content-Disposition: form-data; name="{name}"{kind}\r\n\r\n'.encode() + content


def body(boundary, parts):
    return b"".join(b"\r\n--" + boundary + b"\r\n" + each for each in parts) + b"\r\n--" + boundary + b"--\r\n"


def setup(seed):
    """Two forms and the boundary of each. One of the files has a few line breaks in its first kilobytes."""
    rng = random.Random(seed)
    boundary = b"----form" + rng.randbytes(12).hex().encode()
    files = [rng.randbytes(FILE_SIZE).translate(NO_BREAKS) for _ in range(2)]
    head = b"\r\n".join(rng.randbytes(60).hex().encode() for _ in range(20))
    text = "\r\n".join(" ".join(rng.choices(["alpha", "beta", "gamma"], k=12)) for _ in range(3000)).encode()
    binary = [
        part("title", rng.randbytes(20).hex().encode()),
        part("archive", files[0], "archive.bin"),
        part("note", b"two\r\nlines"),
        part("image", head + files[1], "image.bin"),
    ]
    plain = [part("text", text), part("copy", text, "text.txt")]
    return [(boundary, body(boundary, binary)), (boundary, body(boundary, plain))]


def decode(boundary, received):
    """The parts of a form: name, file name, number of bytes, digest of the bytes."""
    decoder = MultipartDecoder(boundary)
    parts = []
    for start in range(0, len(received) + CHUNK, CHUNK):
        decoder.receive_data(received[start : start + CHUNK] or None)
        while not isinstance(event := decoder.next_event(), (NeedData, Epilogue)):
            if isinstance(event, (Field, File)):
                parts.append([event.name, getattr(event, "filename", None), 0, hashlib.blake2b()])
            elif isinstance(event, Data):
                parts[-1][2] += len(event.data)
                parts[-1][3].update(event.data)
    return [(name, filename, size, digest.hexdigest()) for name, filename, size, digest in parts]


def run(forms):
    return [decode(boundary, received) for boundary, received in forms]
