"""The process that compares outputs. Standard library only: it runs on the task's Python, with base's tree.

No code of a candidate ever runs here. The outputs arrive as bytes and are read by the reader below, which makes
nothing but plain data; numpy is used where the task's environment has it.

The first line of its input is its configuration. Request: a JSON line {"lengths": [...], "seeds": count}, then the
bytes of the candidate's outputs and base's, and, where precision is asked for, of the exact ones. Reply: a JSON line
{"equal": bool, "detail": str}.
"""

import array
import cmath
import heapq
import importlib.util
import json
import math
import os
import site
import struct
import sys

# Relative and absolute tolerance per floating dtype: those of torch.testing.assert_close (PyTorch documentation),
# but for f8, whose 1e-7 would let values through that were rounded to float32.
TOLERANCES = {"f8": (1e-9, 1e-12), "f4": (1.3e-6, 1e-5), "f2": (1e-3, 1e-5), "bf16": (1.6e-2, 1e-5)}
_TORCH = {"torch.float64": "f8", "torch.float32": "f4", "torch.float16": "f2", "torch.bfloat16": "bf16"}
_DEPTH = 200
_PIECE = 1024
NAMES = {"f8": "float64", "f4": "float32", "f2": "float16", "bf16": "bfloat16"}
# The precisions below a type, the lowest first; the distance from 1 to the next number of a type.
LOWER = {"f8": ("bfloat16", "float16", "tf32", "float32"), "f4": ("bfloat16", "float16", "tf32")}
EPSILON = {"f8": 2.0**-52, "f4": 2.0**-23, "f2": 2.0**-10, "bf16": 2.0**-7}


class NotPlainError(ValueError):
    """The bytes are not plain data as a worker writes it."""


class Array:
    """A numpy array, numpy scalar or torch tensor as it was exported."""

    def __init__(self, kind, dtype, shape, data):
        if [type(part) for part in (kind, dtype, shape, data)] != [str, str, tuple, bytes]:
            raise NotPlainError("an array that no worker writes")
        self.kind, self.dtype, self.shape, self.data, self.size = kind, dtype, shape, data, len(data)

    @property
    def float_kind(self):
        """The key of TOLERANCES, or None for a dtype that must be equal."""
        if self.kind == "tensor":
            return _TORCH.get(self.dtype)
        return self.dtype[1:] if self.dtype[1:] in TOLERANCES and self.dtype[0] in "<=|" else None

    def numbers(self):
        """The elements as Python floats."""
        kind = self.float_kind
        if kind == "f2":
            return struct.unpack(f"<{len(self.data) // 2}e", self.data)
        if kind == "bf16":  # the upper half of a float32
            whole = bytearray(2 * self.size)
            whole[2::4], whole[3::4] = self.data[::2], self.data[1::2]
            return array.array("f", bytes(whole))
        return array.array("d" if kind == "f8" else "f", self.data)

    def unequal(self, other):
        """The flat indices of elements whose bytes differ in two arrays of one floating type and shape."""
        code = {"f8": "Q", "f4": "I"}.get(self.float_kind, "H")
        mine, theirs, found = array.array(code, self.data), array.array(code, other.data), []
        for start in range(0, len(mine), _PIECE):  # pieces that are equal are compared as fast as bytes are
            left, right = mine[start : start + _PIECE], theirs[start : start + _PIECE]
            if left != right:
                found += [at for at, (one, two) in enumerate(zip(left, right, strict=True), start) if one != two]
        return found

    def native(self):
        """The array as numpy or torch has it, for a task's own check."""
        if self.kind == "tensor":
            import torch

            dtype = getattr(torch, self.dtype.removeprefix("torch."))
            flat = torch.frombuffer(bytearray(self.data), dtype=dtype) if self.data else torch.empty(0, dtype=dtype)
            return flat.reshape(self.shape)
        import numpy

        made = numpy.frombuffer(self.data, dtype=numpy.dtype(self.dtype)).reshape(self.shape)
        return made[()] if self.kind == "scalar" else made.copy()


class Reader:
    """Reads marshal's version 2 of plain data, and refuses everything else."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise NotPlainError("the bytes end early")
        self.at += count
        return self.data[self.at - count : self.at]

    def count(self):
        return int.from_bytes(self.take(4), "little", signed=True)

    def value(self, depth=0):
        if depth > _DEPTH:
            raise NotPlainError(f"nested deeper than {_DEPTH}")
        code = self.take(1)
        if code in SIMPLE:
            return SIMPLE[code]
        if code == b"i":
            return self.count()
        if code == b"l":
            return self.long()
        if code == b"g":
            return struct.unpack("<d", self.take(8))[0]
        if code == b"y":
            return complex(*struct.unpack("<dd", self.take(16)))
        if code == b"s":
            return self.take(self.count())
        if code == b"u":
            return self.take(self.count()).decode("utf-8", "surrogatepass")
        if code in b"([<>":
            items = [self.value(depth + 1) for _ in range(self.count())]
            if code == b"(" and len(items) == 5 and items[0] is ...:
                return Array(*items[1:])
            return {b"(": tuple, b"[": list, b"<": set, b">": frozenset}[code](items)
        if code == b"{":
            return self.dictionary(depth)
        raise NotPlainError(f"a value of marshal type {code!r}")

    def long(self):
        count = self.count()
        parts, bits = list(struct.unpack(f"<{abs(count)}H", self.take(2 * abs(count)))), 15
        while len(parts) > 1:  # in pairs: one digit at a time would take a day for a number of a hundred megabytes
            parts += [0] * (len(parts) % 2)
            parts = [low | high << bits for low, high in zip(parts[::2], parts[1::2], strict=True)]
            bits *= 2
        number = parts[0] if parts else 0
        return -number if count < 0 else number

    def dictionary(self, depth):
        found = {}
        while self.data[self.at : self.at + 1] != b"0":
            key = self.value(depth + 1)
            found[key] = self.value(depth + 1)
        self.at += 1
        return found


SIMPLE = {b"N": None, b"T": True, b"F": False, b".": ...}


def read(data):
    """Plain data from a worker's bytes. Raises NotPlainError."""
    reader = Reader(data)
    try:
        value = reader.value()
    except (struct.error, UnicodeDecodeError, TypeError) as error:
        raise NotPlainError(str(error)) from None
    if reader.at != len(data):
        raise NotPlainError("bytes follow the end")
    return value


def close(left, right, tolerance):
    """Whether two floats agree; NaN only with NaN, infinities exactly."""
    if left == right:
        return True
    if math.isnan(left) or math.isnan(right):
        return math.isnan(left) and math.isnan(right)
    relative, absolute = tolerance
    return math.isfinite(left) and math.isfinite(right) and abs(left - right) <= absolute + relative * abs(right)


def difference(candidate, reference, place="output"):
    """Where and how two plain values differ first; "" when they agree. Types must be the same, exactly."""
    if type(candidate) is not type(reference):
        return f"{place} is a {type(candidate).__name__}, base's is a {type(reference).__name__}"
    if isinstance(reference, float):
        same = close(candidate, reference, TOLERANCES["f8"])
        return "" if same else f"{place} is {candidate!r}, base's is {reference!r}"
    if isinstance(reference, complex):
        parts = ((candidate.real, reference.real), (candidate.imag, reference.imag))
        same = candidate == reference or all(close(left, right, TOLERANCES["f8"]) for left, right in parts)
        return "" if same or (cmath.isnan(candidate) and cmath.isnan(reference)) else f"{place} differs"
    if isinstance(reference, (list, tuple)):
        if len(candidate) != len(reference):
            return f"{place} has {len(candidate)} items, base's has {len(reference)}"
        pairs = enumerate(zip(candidate, reference, strict=True))
        return next(filter(None, (difference(a, b, f"{place}[{i}]") for i, (a, b) in pairs)), "")
    if isinstance(reference, dict):
        if typed(candidate) != typed(reference):
            return f"{place} has other keys than base's"
        return next(filter(None, (difference(candidate[k], v, f"{place}[{k!r}]") for k, v in reference.items())), "")
    if isinstance(reference, (set, frozenset)):
        return "" if typed(candidate) == typed(reference) else f"{place} holds other members than base's"
    if isinstance(reference, Array):
        return array_difference(candidate, reference, place)
    return "" if candidate == reference else f"{place} is {short(candidate)}, base's is {short(reference)}"


def typed(keys):
    """Keys or members with their types, so that 1 is neither True nor 1.0."""
    return {(type(key), key) for key in keys}


def array_difference(candidate, reference, place):
    """As `difference`, for arrays: same kind, dtype and shape, elements within the dtype's tolerance."""
    for name in ("kind", "dtype", "shape", "size"):
        mine, base = getattr(candidate, name), getattr(reference, name)
        if mine != base:
            return f"{place} has {name} {mine}, base's has {base}"
    if candidate.data == reference.data:
        return ""
    kind = reference.float_kind
    if kind is None:
        return f"{place} differs (dtype {reference.dtype} must be equal)"
    tolerance, mine, base = TOLERANCES[kind], candidate.numbers(), reference.numbers()
    for index in candidate.unequal(reference):
        if not close(mine[index], base[index], tolerance):
            return f"{place} differs at flat index {index}: {mine[index]!r}, base's is {base[index]!r}"
    return ""


def short(value):
    """A value's beginning."""
    try:
        shown = repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return f"an integer of {value.bit_length()} bits"
    return shown if len(shown) <= 80 else shown[:77] + "..."


def native(value):
    """Plain data with its arrays as numpy or torch has them."""
    if isinstance(value, Array):
        return value.native()
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(native(item) for item in value)
    if isinstance(value, dict):
        return {key: native(item) for key, item in value.items()}
    return value


def exported(outputs, export):
    """Outputs as the task's own `export` makes them, where it has one."""
    return outputs if export is None else [export(native(output)) for output in outputs]


def floating(value, place="output"):
    """(place, kind, numbers) of every floating array; a list of floats and a single float count as arrays of f8."""
    if isinstance(value, Array):
        if value.float_kind is not None:
            yield place, value.float_kind, value.numbers()
    elif isinstance(value, float):
        yield place, "f8", (value,)
    elif isinstance(value, (list, tuple)):
        if value and all(isinstance(item, float) for item in value):
            yield place, "f8", value
        else:
            for index, item in enumerate(value):
                yield from floating(item, f"{place}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from floating(item, f"{place}[{key!r}]")


def fits(number, lower):
    """Whether a finite number is exactly one of that lower precision."""
    single = array.array("f", (number,))
    if single[0] != number:
        return False
    bits = array.array("I", single.tobytes())[0]
    if lower == "float16":
        return abs(number) <= 65504 and (bits & 0x1FFF == 0 if abs(number) >= 2**-14 else (number * 2**24).is_integer())
    return bits & {"bfloat16": 0xFFFF, "tf32": 0x1FFF, "float32": 0}[lower] == 0


def degraded(candidate, reference):
    """Where the candidate has NaN and base none, or numbers all of a lower precision and base not; "" where nowhere.

    A tolerance lets such numbers pass, above all a task's own, and a comparison written carelessly any NaN. Of an
    array at least 32 distinct numbers must be seen to speak of precision.
    """
    base = {place: (kind, numbers) for place, kind, numbers in floating(reference)}
    for place, kind, numbers in floating(candidate):
        if base.get(place, ("",))[0] != kind:
            continue
        if has_nan(numbers) and not has_nan(base[place][1]):
            return f"{place} has NaN, base's has none"
        if kind not in LOWER:
            continue
        mine, theirs = seen(numbers), seen(base[place][1])
        if len(mine) < 32 or len(theirs) < 32:
            continue
        for lower in LOWER[kind]:
            if share(mine, lower) >= 0.99 and share(theirs, lower) < 0.9:
                return f"precision lowered: {place} has {NAMES[kind]} values rounded to {lower}"
    return ""


def has_nan(numbers):
    """Whether any is NaN; a finite sum, which is quicker, says that none is."""
    return not math.isfinite(sum(numbers)) and any(map(math.isnan, numbers))


def seen(numbers):
    """The distinct finite numbers that are not 0, of some 2,000 evenly spread ones."""
    return {value for value in numbers[:: len(numbers) // 2000 + 1] if value and math.isfinite(value)}


def share(numbers, lower):
    """The part of the numbers that are of the lower precision."""
    return sum(fits(number, lower) for number in numbers) / len(numbers)


def precision_loss(candidate, reference, exact):
    """Where the candidate is further from the exact values than base may be; "" where nowhere.

    For each floating array the error is relative to the largest exact value, at its maximum and at its 99.9th
    percentile; either may be twice base's own, or four units in the last place of the array's type.
    """
    mine, base, true = ({place: rest for place, *rest in floating(value)} for value in (candidate, reference, exact))
    common = [place for place in base if place in true]
    if not common:
        return "reference() gives no floating array where run does"
    for place in common:
        kind, theirs = base[place]
        numbers, wanted = mine.get(place, ("", ()))[1], true[place][1]
        if not len(numbers) == len(theirs) == len(wanted):
            return f"{place} has {len(numbers)} numbers, base's {len(theirs)}, that of reference() {len(wanted)}"
        judged = [at for at, (one, other) in enumerate(zip(theirs, wanted, strict=True)) if math.isfinite(one - other)]
        both = zip(errors(numbers, wanted, judged), errors(theirs, wanted, judged), strict=True)
        for name, (ours, base_error) in zip(("largest", "99.9th percentile"), both, strict=True):
            limit = max(2 * base_error, 4 * EPSILON[kind])
            if not ours <= limit:
                return (
                    f"precision lost: the {name} error of {place} is {ours:.3g} of the largest value, "
                    f"base's is {base_error:.3g} (allowed: {limit:.3g})"
                )
    return ""


def errors(numbers, exact, judged):
    """The largest error and its 99.9th percentile, relative to the largest exact value; NaN counts as infinite."""
    if not judged:
        return 0.0, 0.0
    scale = max(abs(exact[at]) for at in judged) or 1.0
    found = (abs(numbers[at] - exact[at]) / scale for at in judged)
    largest = heapq.nlargest(len(judged) // 1000 + 1, (math.inf if math.isnan(error) else error for error in found))
    return largest[0], largest[-1]


def compare(candidate, reference, seeds, check=None, export=None):
    """The verdict on one batch of outputs, as the reply's record; `export` is applied to both sides first."""
    try:
        mine, base = read(candidate), read(reference)
    except NotPlainError as error:
        return {"equal": False, "detail": f"the output cannot be read: {error}"}
    if type(mine) is not list or len(mine) != seeds or len(base) != seeds:
        return {"equal": False, "detail": f"the output must be {seeds} results"}
    worse = degraded(mine, base)
    if export is not None:
        base = exported(base, export)
        try:
            mine = exported(mine, export)
        except Exception as error:
            return {"equal": False, "detail": f"export() refused an output: {type(error).__name__}: {error}"[:2000]}
    if check is None:
        detail = difference(mine, base) or worse
        return {"equal": not detail, "detail": detail}
    if worse:
        return {"equal": False, "detail": worse}
    for index in range(seeds):
        try:
            check(native(mine[index]), native(base[index]))
        except Exception as error:
            return {
                "equal": False,
                "detail": f"check() refused output[{index}]: {type(error).__name__}: {error}"[:2000],
            }
    return {"equal": True, "detail": ""}


def main():
    """Serve comparisons until the input closes."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    config = json.loads(requests.readline())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    site.main()
    sys.path[:0] = config["pythonpath"]
    check = export = None
    if config["check"] or config["export"]:
        spec = importlib.util.spec_from_file_location("workload", config["workload"])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        check = module.check if config["check"] else None
        export = module.export if config["export"] else None
    while line := requests.readline():
        request = json.loads(line)
        outputs = [requests.read(length) for length in request["lengths"]]
        try:
            if len(outputs) == 3:
                detail = precision_loss(*(exported(read(output), export) for output in outputs))
                reply = {"equal": not detail, "detail": detail}
            else:
                reply = compare(*outputs, request["seeds"], check, export)
        except Exception as error:  # whatever it is, outputs that cannot be compared are not equal
            reply = {"equal": False, "detail": f"the outputs cannot be compared ({type(error).__name__})"}
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    main()
