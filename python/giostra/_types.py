"""Types beyond those of MessagePack: how they are sent, and read again."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

T = TypeVar("T")

_names: dict[type, tuple[str, Callable[[Any], Any]]] = {}
_readers: dict[str, Callable[[Any], Any]] = {}


def register(
    cls: type[T],
    *,
    name: str | None = None,
    encode: Callable[[T], Any] | None = None,
    decode: Callable[[Any], T] | None = None,
) -> type[T]:
    """Has objects of this class sent and read, in arguments and results.

    Both sides register it, under the same name: that of the class, unless another is given. ``encode``
    returns what is sent in place of an object, of the types that can be sent; ``decode`` makes the object
    of that. A dataclass needs neither, and it can be used as a decorator:

    >>> import dataclasses, giostra
    >>> @giostra.register
    ... @dataclasses.dataclass
    ... class Point:
    ...     x: float
    ...     y: float
    >>> giostra.unpackb(giostra.packb([Point(1.0, 2.5)]))
    [Point(x=1.0, y=2.5)]
    >>> giostra.register(complex, encode=lambda z: [z.real, z.imag], decode=lambda parts: complex(*parts))
    <class 'complex'>
    >>> giostra.unpackb(giostra.packb(1 + 2j))
    (1+2j)
    """
    if encode is None and decode is None and dataclasses.is_dataclass(cls):
        fields = [field.name for field in dataclasses.fields(cls) if field.init]

        def write(value: T) -> Any:
            return {field: getattr(value, field) for field in fields}

        def read(values: Any) -> T:
            return cls(**values)

        encode, decode = write, read
    if encode is None or decode is None:
        raise TypeError(f"{cls.__qualname__} is no dataclass: encode and decode have to be given")
    name = name or cls.__qualname__
    _names[cls] = name, encode
    _readers[name] = decode
    return cls


def encode(value: object) -> tuple[str, object] | None:
    """Returns the name of an object's type, and what is sent in its place; None if it is not registered."""
    known = _names.get(type(value))
    if known is None:
        # Whoever has such an object has imported numpy.
        if "numpy" in sys.modules and "numpy.ndarray" not in _readers:
            _register_numpy()
            return encode(value)
        known = next((_names[base] for base in type(value).__mro__ if base in _names), None)
    if known is None:
        return None
    name, encoder = known
    return name, encoder(value)


def decode(name: str, value: object) -> object:
    """Returns the object of a registered type."""
    if name.startswith("numpy.") and name not in _readers:
        _register_numpy()
    reader = _readers.get(name)
    if reader is None:
        raise TypeError(f"an object of type {name} has come: giostra.register() has to be told of it here, too")
    return reader(value)


def _described(described: Any) -> Any:
    """Returns the description of a dtype with its tuples, which have come as lists."""
    if type(described) is not list:
        return described
    # Of each field the name, the type, and for arrays within it their shape.
    return [(field[0], _described(field[1]), *map(tuple, field[2:])) for field in cast("list[list[Any]]", described)]


def _register_numpy() -> None:
    numpy: Any = importlib.import_module("numpy")

    def write(array: Any) -> Any:
        if array.dtype.hasobject:
            raise TypeError(f"an array of dtype {array.dtype} can't be sent: it has objects of Python")
        if isinstance(array, numpy.ma.MaskedArray):
            raise TypeError("a masked array can't be sent: send its data and its mask")
        if array.dtype.kind == "T":
            raise TypeError("an array of StringDType can't be sent: send array.astype('U')")
        described = numpy.lib.format.dtype_to_descr(array.dtype)
        return [described, array.shape, array.tobytes()]

    def read(parts: Any) -> Any:
        described, shape, data = parts
        array = numpy.empty(shape, numpy.lib.format.descr_to_dtype(_described(described)))
        if array.nbytes != len(data):
            raise ValueError(f"an array of {array.nbytes} bytes has come with {len(data)}")
        # What comes with an array is a bytearray, so that it can be written to.
        return numpy.ndarray(shape, array.dtype, data) if data else array

    def read_scalar(parts: Any) -> Any:
        return read(parts)[()]

    register(numpy.ndarray, name="numpy.ndarray", encode=write, decode=read)
    register(numpy.generic, name="numpy.generic", encode=write, decode=read_scalar)
