"""A client of Giostra. It shows the protocol: for programs there is the package ``giostra``
(docs/python.md).

    pip install pyzmq msgpack
    python client.py                    a thousand random additions, their results checked
    python client.py add 2 3            one request, its result printed
    python client.py echo picture.png   a file's bytes as the argument

An argument that is not a number names a file. Exit status: 0 if every request was answered
correctly, 1 if not or if the broker refused the client, 2 for a wrong command line. With --keys and
--broker-key, certificates as zmq.auth makes them, the connection is encrypted (CURVE).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import deque
from contextlib import closing
from pathlib import Path

import msgpack

from connection import AT_ONCE, FULL, VERSION, Broker, Outcome, attached, default_name, parse, parser, whole

GRACE = 1.0  # seconds after the time limit, within which the broker reports what has expired


def submit_all(bodies: list[bytes], broker: Broker, options: argparse.Namespace) -> dict[int, Outcome]:
    """Returns the outcomes, by place in the list. Missing are those without a reply in time."""
    deadline = time.monotonic() + options.timeout
    outcomes: dict[int, Outcome] = {}
    unanswered = dict(enumerate(bodies))
    unsent: deque[tuple[int, bytes]] = deque()
    session: int | None = None  # from the broker's Welcome; nothing may be submitted without it
    credit = max_batch = sys.maxsize
    while unanswered and (left := deadline - time.monotonic()) > -GRACE:
        message, attachments = broker.receive(left + GRACE)
        match message:
            case {"Welcome": [_, _, session, max_bytes, max_batch, *_]}:
                outcomes.update(too_large(unanswered, max_bytes))
                unanswered = {request: body for request, body in unanswered.items() if request not in outcomes}
                unsent, credit = deque(unanswered.items()), sys.maxsize
            case {"Replies": replies}:
                for request, outcome, _trace in replies:
                    if unanswered.pop(request, None) is not None:
                        if "Ok" in outcome:
                            outcome["Ok"] = whole(outcome["Ok"], attachments)
                        outcomes[request] = outcome
            case {"Rejected": requests}:
                unsent.extend((request, unanswered[request]) for request in requests if request in unanswered)
                credit = 0
            case {"Credit": [credit]}:
                pass
            case "HelloAgain":
                session = None
                broker.introduce()
            case "Hiccup":
                session = None
                broker.reconnect()
            case "Goodbye":
                broker.send("Goodbye")  # Everything has been read: the broker waits for this.
            case "Closing":
                session = None  # Replies may still come, then the connection breaks.
            case {"Refused": [reason]} | {"Declined": [reason, _]}:
                sys.exit(f"refused: {reason}")
        while session is not None and unsent and credit > 0:
            requests, attachments = pack(unsent, min(credit, max_batch, AT_ONCE))
            credit -= len(requests)
            timeout_ms = max(1, int(left * 1000))  # 0 would be no limit
            broker.send({"Submit": [session, options.pool, timeout_ms, "Normal", True, requests]}, attachments)
    return outcomes


def too_large(bodies: dict[int, bytes], max_bytes: int) -> dict[int, Outcome]:
    """Returns an error for each body that is larger than the broker takes.

    Sending one would break the connection.
    """
    explanation = "the request has {} bytes, and this broker takes {} at most"
    return {
        request: {"Error": ["invalid", explanation.format(len(body), max_bytes)]}
        for request, body in bodies.items()
        if len(body) > max_bytes
    }


def pack(unsent: deque[tuple[int, bytes]], limit: int) -> tuple[list[tuple[int, bytes | int]], list[bytes]]:
    """Takes the requests of the next message, at most `limit`. Returns them, and attachments."""
    requests: list[tuple[int, bytes | int]] = []
    attachments: list[bytes] = []
    size = 0
    while unsent and len(requests) < limit and size < FULL:
        request, body = unsent.popleft()
        requests.append((request, attached(body, attachments)))
        size += len(body)
    return requests, attachments


def argument(text: str) -> int | float | bytes:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    try:
        return Path(text).read_bytes()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"neither a number nor a file that can be read: {text}") from error


def one(broker: Broker, options: argparse.Namespace) -> str | None:
    """Prints the result of one request. Returns an error message if there is none."""
    outcomes = submit_all([msgpack.packb([options.operation, options.arguments])], broker, options)
    match outcomes.get(0):
        case {"Ok": body}:
            result = msgpack.unpackb(body)
            if isinstance(result, bytes):
                sys.stdout.buffer.write(result)
            else:
                print(result)
            return None
        case {"Error": [code, explanation]}:
            return f"{code}: {explanation}"
        case _:
            return f"no reply within {options.timeout} s"


def many(broker: Broker, options: argparse.Namespace) -> bool:
    """Sends a thousand random additions. Returns whether any was not answered correctly."""
    pairs = [(random.randrange(1000), random.randrange(1000)) for _ in range(1000)]
    outcomes = submit_all([msgpack.packb(["add", pair]) for pair in pairs], broker, options)
    results = {place: msgpack.unpackb(outcome["Ok"]) for place, outcome in outcomes.items() if "Ok" in outcome}
    right: int = sum(results.get(place) == sum(pair) for place, pair in enumerate(pairs))
    print(f"{len(outcomes)} of {len(pairs)} answered, {right} of them correctly")
    return right < len(pairs)


def main() -> None:
    flags = parser(__doc__, "tcp://127.0.0.1:5555", default_name())
    flags.add_argument("operation", nargs="?", help="without one: a thousand random additions")
    flags.add_argument("arguments", nargs="*", type=argument, help="numbers, or files")
    flags.add_argument("--timeout", type=float, default=30.0, help="seconds, for all requests together (30)")
    options = parse(flags)
    with closing(Broker(options, {"Hello": [VERSION, options.name]})) as broker:
        sys.exit(one(broker, options) if options.operation else many(broker, options))


if __name__ == "__main__":
    main()
