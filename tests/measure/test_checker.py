"""Outputs are read as plain data only, and compared by type, shape and tolerance."""

import contextlib
import marshal
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniperf.measure.checker import NotPlainError, compare, difference, precision_loss, read

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


@given(plain)
def test_what_a_worker_writes_is_read_back(value: object) -> None:
    back = read(marshal.dumps(value, 2))
    assert back == value
    assert type(back) is type(value)


@given(st.frozensets(st.integers()), st.sets(st.text()))
def test_sets_too(frozen: frozenset[int], loose: set[str]) -> None:
    assert read(marshal.dumps([frozen, loose], 2)) == [frozen, loose]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(NotPlainError):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        marshal.dumps(compile("1", "x", "eval"), 2),
        b"s\xff\xff\xff\x7f",
        b"[" + b"\xff\xff\xff\x7f",
        b"(\x01\x00\x00\x00" * 500 + b"N",
        b"NN",
        b"",
        b"{[\x00\x00\x00\x00N0",
    ],
    ids=["code", "long string", "long list", "deep", "trailing", "empty", "unhashable key"],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(NotPlainError):
        read(data)


@pytest.mark.parametrize(
    ("mine", "base"),
    [
        (1, True), (1, 1.0), ((1,), [1]), ([1, 2], [1]), ({"a": 1}, {"b": 1}), ("a", b"a"), (1.0, 1.001),
        (math.nan, 1.0), (1.0, math.nan), (math.inf, -math.inf), (math.inf, 1e308), (None, 0),
        ([1, [2, 3]], [1, [2, 4]]), ({1: 5}, {True: 5}), ({1.0}, {1}), (0.1, 0.10000000149011612),
    ],
)  # fmt: skip
def test_these_differ(mine: object, base: object) -> None:
    assert difference(mine, base)


@pytest.mark.parametrize(
    ("mine", "base"),
    [
        (1.0, 1.0 + 1e-12), (math.nan, math.nan), (math.inf, math.inf), ({1, 2}, {2, 1}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (0.0, -0.0), (1 + 1e-12j, 1 + 0j),
    ],
)  # fmt: skip
def test_these_agree(mine: object, base: object) -> None:
    assert difference(mine, base) == ""


def test_the_first_difference_is_named() -> None:
    assert difference({"a": [1, 2]}, {"a": [1, 3]}) == "output['a'][1] is 2, base's is 3"


def array(kind: str, dtype: str, shape: tuple[int, ...], data: bytes) -> bytes:
    return marshal.dumps([(..., kind, dtype, shape, data)], 2)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


@pytest.mark.parametrize(
    ("mine", "equal"),
    [
        (array("ndarray", "<f4", (2,), floats(1.0, 2.0)), True),
        (array("ndarray", "<f4", (2,), floats(1.0, 2.000001)), True),
        (array("ndarray", "<f4", (2,), floats(1.0, 2.001)), False),
        (array("ndarray", "<f4", (2,), floats(1.0, math.nan)), False),
        (array("ndarray", "<f4", (1, 2), floats(1.0, 2.0)), False),
        (array("ndarray", "<f8", (2,), floats(1.0, 2.0)), False),
        (array("tensor", "torch.float32", (2,), floats(1.0, 2.0)), False),
        (array("ndarray", "<f4", (2,), floats(1.0)), False),
        (marshal.dumps([[1.0, 2.0]], 2), False),
        (b"rubbish", False),
    ],
)
def test_arrays_agree_in_kind_dtype_shape_and_values(mine: bytes, equal: bool) -> None:
    base = array("ndarray", "<f4", (2,), floats(1.0, 2.0))
    assert compare(mine, base, 1, None)["equal"] is equal


def test_the_tasks_own_check_decides_where_there_is_one() -> None:
    def check(output: object, reference: object) -> None:
        if abs(output - reference) > 5:  # type: ignore[operator]
            raise AssertionError("too far")

    near, far, base = (marshal.dumps([value], 2) for value in (12, 20, 10))
    assert compare(near, base, 1, check)["equal"]
    assert "too far" in compare(far, base, 1, check)["detail"]
    assert not compare(marshal.dumps([1, 2], 2), base, 1, check)["equal"]


def test_export_is_applied_to_both_sides_here_and_not_in_the_worker() -> None:
    def export(output: object) -> int:
        assert output != [3], "not a valid answer"
        return len(output)  # type: ignore[arg-type]

    one, other, long, invalid = (marshal.dumps([value], 2) for value in ([1], [2], [1, 2], [3]))
    assert compare(other, one, 1, export=export)["equal"]
    assert not compare(long, one, 1, export=export)["equal"]
    assert "not a valid answer" in compare(invalid, one, 1, export=export)["detail"]


def doubles(values: list[float]) -> bytes:
    return array("ndarray", "<f8", (len(values),), struct.pack(f"<{len(values)}d", *values))


def singles(values: list[float]) -> bytes:
    return array("ndarray", "<f4", (len(values),), floats(*values))


def rounded(values: list[float], bits: int) -> list[float]:
    """As float32 with so many of its last bits 0."""
    whole = struct.unpack(f"<{len(values)}I", floats(*values))
    return list(
        struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}I", *(one >> bits << bits for one in whole)))
    )


VALUES = [math.sqrt(2 + n) for n in range(200)]
SINGLE = rounded(VALUES, 0)


@pytest.mark.parametrize(
    ("mine", "base", "lower"),
    [
        (doubles(SINGLE), doubles(VALUES), "float32"),
        (doubles([*SINGLE, 0.1]), doubles([*VALUES, 0.1]), "float32"),
        (marshal.dumps([SINGLE], 2), marshal.dumps([VALUES], 2), "float32"),
        (doubles(rounded(VALUES, 16)), doubles(VALUES), "bfloat16"),
        (singles(rounded(VALUES, 13)), singles(VALUES), "float16"),
        (singles([one * 2**20 for one in rounded(VALUES, 13)]), singles([one * 2**20 for one in VALUES]), "tf32"),
        (singles(rounded(VALUES, 16)), singles(VALUES), "bfloat16"),
        (doubles(SINGLE[:31]), doubles(VALUES[:31]), ""),
        (doubles([*SINGLE, *VALUES]), doubles([*VALUES, *VALUES]), ""),
        (doubles(SINGLE), doubles(rounded(VALUES, 1)), ""),
        (doubles([0.0, math.inf, 1.0] * 66), doubles(VALUES[:198]), ""),
        (singles(SINGLE), singles(VALUES), ""),
    ],
)
def test_numbers_of_a_lower_precision_than_bases_are_refused_even_where_a_check_passes(
    mine: bytes, base: bytes, lower: str
) -> None:
    found = compare(mine, base, 1, lambda output, reference: None)
    assert found["equal"] is not bool(lower)
    assert found["detail"].endswith(f"values rounded to {lower}" if lower else "")


EXACT = [1.0, 2.0, 4.0, *([3.0] * 2000)]


@pytest.mark.parametrize(
    ("mine", "base", "lost"),
    [
        (EXACT, EXACT, ""),
        ([1.0 + 3e-15, *EXACT[1:]], EXACT, ""),  # 4 ulp of the largest value, 4.0, are 3.6e-15
        ([1.0 + 1e-14, *EXACT[1:]], EXACT, "largest error"),
        ([1.0 + 1e-8, *EXACT[1:]], [1.0 + 6e-9, *EXACT[1:]], ""),
        ([1.0 + 1e-8, *EXACT[1:]], [1.0 + 4e-9, *EXACT[1:]], "largest error"),
        ([*EXACT[:3], *[3.0 + 1e-9] * 2000], [1.0 + 1e-9, *EXACT[1:]], "99.9th percentile"),
        ([math.nan, *EXACT[1:]], EXACT, "largest error"),
        ([math.nan, *EXACT[1:]], [math.nan, *EXACT[1:]], ""),
        (EXACT[1:], EXACT, "2002 numbers"),
    ],
)
def test_the_error_against_the_exact_values_may_be_twice_bases_or_four_units(
    mine: list[float], base: list[float], lost: str
) -> None:
    found = precision_loss([mine], [base], [EXACT])
    assert lost in found and bool(found) is bool(lost)


def test_nan_that_base_has_nowhere_is_refused_even_where_a_check_passes() -> None:
    good, bad = doubles([1.0, 2.0]), doubles([1.0, math.nan])
    assert compare(bad, good, 1, lambda output, reference: None)["detail"] == "output[0] has NaN, base's has none"
    assert compare(good, bad, 1, lambda output, reference: None)["equal"]


def test_a_reference_without_a_floating_array_is_no_reference() -> None:
    assert "no floating array" in precision_loss([EXACT], [EXACT], [[1, 2]])
