"""Settings that are the same for clients, workers and the command line: from arguments, or else from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_POOL = "compute"


@dataclass(frozen=True)
class Keys:
    """The files or the text of the keys, if any."""

    own: str | None
    broker: str | None


def keys(own: str | Path | None, broker: str | Path | None, variable: str) -> Keys:
    """Returns the keys that were given, or those that the environment names."""
    own = own or os.environ.get(variable)
    broker = broker or os.environ.get("GIOSTRA_BROKER_KEY")
    return Keys(os.fspath(own) if own else None, os.fspath(broker) if broker else None)


def text(value: str | None, variable: str, default: str) -> str:
    """Returns a value that was given, or that of the environment, or the default."""
    return value if value is not None else os.environ.get(variable) or default


def number(value: int | None, variable: str, default: int) -> int:
    """Returns a number that was given, or that of the environment, or the default."""
    if value is not None:
        return value
    written = os.environ.get(variable)
    if not written:
        return default
    try:
        return int(written)
    except ValueError:
        raise ValueError(f"{variable}={written} is no number") from None


def switch(value: bool | None, variable: str) -> bool:
    """Returns a switch that was given, or that of the environment (``1``, ``true``, ``yes``, ``on``), or False."""
    if value is not None:
        return value
    written = (os.environ.get(variable) or "0").lower()
    if written in ("1", "true", "yes", "on"):
        return True
    if written in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"{variable}={written} is neither 1, true, yes, on nor 0, false, no, off")


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: float | None, variable: str, default: float) -> float:
    """Returns a time that was given, or that of the environment (``30s``, ``200ms``, ``2m``), or the default."""
    if value is not None:
        return float(value)
    return duration(written) if (written := os.environ.get(variable)) else default


def duration(written: str) -> float:
    """Returns the seconds of a duration as the other programs take it.

    >>> duration("200ms"), duration("2m"), duration("1.5")
    (0.2, 120.0, 1.5)
    """
    digits = written.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = written.strip()[len(digits) :] or "s"
    try:
        return float(digits) * _UNITS[unit]
    except (KeyError, ValueError):
        raise ValueError(f"{written} is no duration such as 30s, 200ms or 2m") from None
