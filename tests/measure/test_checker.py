"""Outputs are read as plain data only, and compared by type, shape and tolerance."""

import contextlib
import marshal
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omniperf.measure.checker import NotPlainError, compare, difference, read

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
    import struct

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
