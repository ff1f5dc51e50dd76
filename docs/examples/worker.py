"""A worker of Giostra, which adds, subtracts, multiplies and divides.

    pip install pyzmq msgpack
    python worker.py --name python-1

SIGINT or SIGTERM lets it leave in order, a second one ends it at once. Exit status: 0 after leaving, 1 if the broker
refused it, 2 for a wrong command line. With --keys and --broker-key, certificates as zmq.auth makes them, the
connection is encrypted (CURVE).

It computes in the thread that answers pings: operations of more than some milliseconds want one of their own.
"""

from __future__ import annotations

import operator
import os
import secrets
import signal
import sys
from collections import deque
from contextlib import closing

import msgpack

from connection import AT_ONCE, FULL, VERSION, Broker, Outcome, attached, parse, parser, whole

GRACE = 3.0  # seconds to wait for the Goodbye of a broker that says nothing


def serve(broker: Broker) -> str | None:
    """Until the worker has left. What the broker says if it does not want it."""
    registered = leaving = False
    max_bytes = 0

    def leave(*_: object) -> None:
        # Python calls this between two steps of the loop below, never while libzmq is at work.
        nonlocal leaving
        leaving = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        broker.send("Leave")

    signal.signal(signal.SIGINT, leave)
    signal.signal(signal.SIGTERM, leave)
    while True:
        message, attachments = broker.receive(GRACE)
        match message:
            case {"Dispatch": requests}:
                bodies = deque((ticket, whole(body, attachments)) for ticket, body in requests)
                while bodies:
                    replies, results = compute_some(bodies, max_bytes)
                    broker.send({"Replies": replies}, results)
            case {"Ping": [sequence]}:
                broker.send({"Pong": [sequence, 0, 0, 0]})
            case {"Welcome": [_, number, _, _, max_bytes, *_]}:
                registered = True
                print(f"registered as w{number}", file=sys.stderr)
                if leaving:
                    broker.send("Leave")
            case "Goodbye":
                return None
            case "RegisterAgain" | "Hiccup" | None if leaving:
                return None  # What it had, others have now.
            case "RegisterAgain":
                broker.introduce()
            case "Hiccup":
                broker.reconnect()
            case {"Refused": [reason]} if not registered:
                return f"refused: {reason}"
            case "Closing":
                pass  # All that came is answered; what still comes will be. Then the connection will break.


def compute_some(bodies: deque[tuple[int, bytes]], most: int) -> tuple[list[tuple[int, Outcome]], list[bytes]]:
    """Takes the next requests: their replies, as many as one message holds, and its attachments."""
    replies: list[tuple[int, Outcome]] = []
    attachments: list[bytes] = []
    size = 0
    while bodies and len(replies) < AT_ONCE and size < FULL:
        ticket, body = bodies.popleft()
        outcome = compute(body)
        if "Ok" in outcome:
            size += (length := len(outcome["Ok"]))
            if length <= most:
                outcome["Ok"] = attached(outcome["Ok"], attachments)
            else:
                outcome = {"Error": ["failed", f"the result has {length} bytes, and this broker takes {most} at most"]}
        replies.append((ticket, outcome))
    return replies, attachments


def compute(body: bytes) -> Outcome:
    """The outcome of a request; whatever is in it, the worker lives on."""
    try:
        operation, (left, right) = msgpack.unpackb(body)
        function = OPERATIONS[operation]
        if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
            raise TypeError("arguments are numbers")
    except (ValueError, TypeError, KeyError) as error:
        return {"Error": ["invalid", f"no request that this worker knows: {error}"[:200]]}
    try:
        return {"Ok": msgpack.packb(function(left, right))}
    except ArithmeticError as error:  # Among them an integer that does not fit into 64 bits.
        return {"Error": ["failed", str(error)]}


def divide(dividend: float, divisor: float) -> float:
    """An integer if it comes out even."""
    quotient = dividend / divisor
    return quotient if dividend % divisor else dividend // divisor


OPERATIONS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": divide}


def main() -> None:
    options = parse(parser(__doc__, "tcp://127.0.0.1:5556", f"worker-{os.getpid()}"))
    threads, window = 1, 0  # 0: as many as the broker gives
    instance = secrets.randbelow(2**53 - 1) + 1  # by which the broker knows this process when it comes back
    introduction = [VERSION, options.name, options.pool, sorted(OPERATIONS), threads, window, instance]
    with closing(Broker(options, {"Register": introduction})) as broker:
        sys.exit(serve(broker))


if __name__ == "__main__":
    main()
