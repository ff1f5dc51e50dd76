"""What can be sent, comes back the same; what can't is refused with a clear error."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
from tasks import Point

import giostra

EDGES = [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]


def both_ways(value: Any) -> Any:
    return giostra.unpackb(giostra.packb(value))


@pytest.mark.parametrize(
    "value",
    [
        *EDGES, -1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63),
        None, True, False, 0.0, -0.0, 1.5, 1e308, float("inf"), 5e-324,
        "", "a" * 31, "a" * 32, "b" * 256, "c" * 70_000, "è 漢 \U0001f3a0 \x00",
        b"", b"\x00\xff" * 200, b"x" * 70_000,
        [], [None] * 16, [[1, [2, [3]]]], list(range(70_000)),
        {}, {"a": {1: [True]}}, {n: str(n) for n in range(70_000)}, {None: 1, 1.5: 2, b"k": 3},
        {(1, (2, 3)): "a tuple as a key"},
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12]}",
)  # fmt: skip
def test_a_value_comes_back_the_same(client: giostra.Client, value: Any) -> None:
    got = client.call("echo", value)
    assert got == value and type(got) is type(value)
    assert repr(got) == repr(value)


def test_not_a_number_stays_none(client: giostra.Client) -> None:
    got = client.call("echo", float("nan"))
    assert got != got


class Level(enum.IntEnum):
    HIGH = 3


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (Level.HIGH, 3),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"abcd")[::2], b"ac"),
    ],
)
def test_what_is_like_a_type_of_messagepack_becomes_one(value: Any, becomes: Any) -> None:
    got = both_ways(value)
    assert got == becomes and type(got) is type(becomes)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (object(), TypeError, "a object can't be sent: None, bool"),
        ({1, 2}, TypeError, "a set can't be sent"),
        (1j, TypeError, "a complex can't be sent"),
        ([lambda: None], TypeError, "a function can't be sent"),
        (2**64, OverflowError, "outside of"),
        (-(2**63) - 1, OverflowError, "outside of"),
        ("\ud800", UnicodeEncodeError, "surrogates not allowed"),
        ({"\udfff": 1}, UnicodeEncodeError, "surrogates not allowed"),
    ],
)  # fmt: skip
def test_what_can_not_be_sent_is_refused(client: giostra.Client, value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        client.call("echo", value)
    assert client.unanswered() == 0


def test_what_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested more than 128 deep"):
        giostra.packb(endless)
    nested: Any = 1
    for _ in range(120):
        nested = {"a": nested} if _ % 2 else [nested]
    assert both_ways(nested) == nested


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xc1", b"\xc4\x05abc", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xa2\xff\xfe", b"\x91" * 600,
     b"\x81\x80\x01", b"\xd4\x01\x00", b"\xc7\x00\x47", b"\xc7\x02\x47\xa1x"],
)  # fmt: skip
def test_bytes_that_are_no_messagepack_are_an_error_and_nothing_worse(packed: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        giostra.unpackb(packed)


def test_a_dataclass_that_is_registered_on_both_sides_arrives_as_itself(client: giostra.Client) -> None:
    assert client.call("echo", [Point(1.0, 2.5)]) == [Point(1.0, 2.5)]
    assert client.call("type_of", Point(0.0, 0.0)) == "Point"


def test_a_type_that_the_worker_was_not_told_of_is_an_error_that_says_so(client: giostra.Client) -> None:
    @giostra.register
    @dataclasses.dataclass
    class Unknown:
        a: int

    with pytest.raises(giostra.Invalid, match=r"an object of type .*Unknown has come: giostra.register\(\)"):
        client.call("echo", Unknown(1))


def test_an_encoder_that_raises_or_that_calls_itself_ends_in_its_error() -> None:
    class Bad:
        pass

    def encode(_: Bad) -> Any:
        raise LookupError("not today")

    giostra.register(Bad, encode=encode, decode=lambda _: Bad())
    with pytest.raises(LookupError, match="not today"):
        giostra.packb(Bad())
    giostra.register(Bad, encode=lambda bad: [bad], decode=lambda _: Bad())
    with pytest.raises(ValueError, match="nested"):
        giostra.packb(Bad())


def test_an_encoder_may_change_the_list_that_is_sent() -> None:
    class Shrinks:
        pass

    items: list[Any] = [Shrinks(), 1, 2]
    giostra.register(Shrinks, encode=lambda _: items.clear(), decode=lambda _: None)
    with pytest.raises(RuntimeError, match="changed its size"):
        giostra.packb(items)


def test_numpy_arrays_and_scalars_arrive_as_they_were(client: giostra.Client) -> None:
    np = pytest.importorskip("numpy")
    structured = np.array([(1, 2.5, (3, 4))], dtype=[("a", "i2"), ("b", "f8"), ("c", "u1", (2,))])
    padded = np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True))
    arrays = [
        np.arange(6.0).reshape(2, 3), np.array(7), np.zeros((0, 3)), np.zeros(0, "U0"), np.array(["", ""]),
        np.arange(24).reshape(4, 6)[::2, ::3], np.arange(6).reshape(2, 3).T, structured, padded,
        np.array(["a", "bcd"]), np.array([b"x"]), np.array([True, False]), np.array([1 + 2j]),
        np.arange(3, dtype=">i4"), np.array(["2026-11-29"], "M8[D]"), np.zeros(3, "f2"),
        np.array([((1, 2),)], dtype=[("outer", [("x", "i4"), ("y", "i4")])]),
    ]  # fmt: skip
    for array, got in zip(arrays, client.map("echo", arrays), strict=True):
        assert got.dtype == array.dtype and got.shape == array.shape, array.dtype
        assert np.array_equal(got, array) and got.flags.writeable, array.dtype
    for scalar in [np.float64(1.5), np.float32(1.5), np.int8(-3), np.bool_(True), np.str_("a"), structured[0]]:
        got = client.call("echo", scalar)
        assert type(got) is type(scalar) and got == scalar
    assert client.call("add", np.ones(200_000), np.ones(200_000)).sum() == 400_000


def test_numpy_arrays_that_can_not_be_sent_are_refused() -> None:
    np = pytest.importorskip("numpy")
    refused = [np.array([object()]), np.ma.masked_array([1, 2], [True, False])]
    if hasattr(np.dtypes, "StringDType"):
        refused.append(np.array(["a"], np.dtypes.StringDType()))
    for array in refused:
        with pytest.raises(TypeError, match="can't be sent"):
            giostra.packb(array)
