"""What can go wrong: the exceptions of calls, and what an exception of an operation becomes."""

from __future__ import annotations

import traceback as tracebacks
from typing import NoReturn


class Error(Exception):
    """The base of this package's exceptions."""


class Failed(Error):
    """A request that ended without a result.

    >>> raise Failed("failed", "ValueError: three is right out")
    Traceback (most recent call last):
    giostra._errors.Failed: ValueError: three is right out
    """

    code: str
    """One of the words in docs/protocol.md, or a worker's own."""
    message: str
    """What happened, for people."""
    traceback: str | None
    """The traceback of the operation, if it was one in Python."""

    def __init__(self, code: str, message: str, traceback: str | None = None) -> None:
        super().__init__(code, message, traceback)
        self.code, self.message, self.traceback = code, message, traceback

    def __str__(self) -> str:
        text = self.message if self.code == "failed" else f"{self.code}: {self.message}"
        return f"{text}\n\nThe worker's traceback:\n{self.traceback}" if self.traceback else text


class Invalid(Failed):
    """A request that no worker of the pool understands: no such operation, or wrong arguments."""


class Expired(Failed):
    """A request whose time limit has passed."""


class Poisoned(Failed):
    """A request that was given up, since too many workers were lost while they computed it."""


class NoWorker(Failed):
    """A request for a pool without a worker, of a client that does not wait for one."""


class NoBroker(Failed):
    """No broker has answered in time."""


class Refused(Error):
    """What the broker does not do, or not for this client."""


class Closed(Error):
    """A client that was closed meanwhile."""


class Unable(Exception):
    """Raised by an operation that can compute nothing for now, whatever the request.

    The request goes to another worker, and this one takes none for a second, or longer if it happens
    again.
    """


_CODES: dict[str, type[Failed]] = {
    "invalid": Invalid,
    "expired": Expired,
    "poison": Poisoned,
    "no-worker": NoWorker,
    "no-broker": NoBroker,
}


def failure(code: str, message: str) -> Failed:
    """Returns the exception of a failure that has come from the broker or a worker."""
    message, _, trace = message.partition("\n")
    return _CODES.get(code, Failed)(code, message, trace or None)


def broken(kind: str, message: str) -> Exception:
    """Returns the exception of a client that can't go on."""
    if kind == "NoBroker":
        return NoBroker("no-broker", message)
    if kind == "ValueError":
        return ValueError(message)
    kinds: dict[str, type[Error]] = {"Refused": Refused, "Closed": Closed}
    return kinds.get(kind, Error)(message)


def describe(error: BaseException) -> tuple[str, str]:
    """Returns the code and the message of the failure that an operation's exception becomes."""
    if isinstance(error, Failed):
        return error.code, _sendable(
            error.message if error.traceback is None else f"{error.message}\n{error.traceback}"
        )
    if isinstance(error, Unable):
        return "unable", _text(error)
    # An exception of the call itself has been in no function: the arguments were not its.
    code = "invalid" if isinstance(error, (TypeError, ValueError)) and error.__traceback__ is None else "failed"
    message = f"{type(error).__name__}: {_text(error)[:1000]}".partition("\n")[0].removesuffix(": ")
    if code == "invalid":
        return code, message
    try:
        lines = "".join(tracebacks.format_exception(error)).rstrip()
    except Exception:
        return code, message
    # A failure has room for about a page: the end says the most.
    return code, f"{message}\n{_sendable(lines[-3000:])}"


def _sendable(text: str) -> str:
    """Without halves of surrogate pairs, which UTF-8 has not."""
    return text.encode("utf-8", "backslashreplace").decode()


def _text(error: BaseException) -> str:
    try:
        return _sendable(str(error))
    except Exception:
        return "an exception that can't be printed"


def fail(code: str, message: str) -> NoReturn:
    """Ends an operation with a failure with a code of its own, for programs."""
    raise Failed(code, message)
