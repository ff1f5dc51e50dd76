"""A worker of Giostra that adds, subtracts, multiplies and divides. It shows the
protocol: for programs there is the package ``giostra`` (docs/python.md).

    pip install pyzmq msgpack
    python worker.py --name python-1

SIGINT or SIGTERM makes it finish what it holds and leave; a second one ends it at once. Exit
status: 0 after leaving, 1 if the broker refused it, 2 for a wrong command line. With --keys and
--broker-key, certificates as zmq.auth makes them, the connection is encrypted (CURVE).

The main thread owns the connection to the broker and answers its pings. A second thread computes,
and the two pass requests and outcomes over a pair of inproc sockets. An extension module that
computes for seconds without releasing the interpreter's lock stops both threads: call such a
function in a process of its own, for example with concurrent.futures.ProcessPoolExecutor.
"""

from __future__ import annotations

import functools
import inspect
import operator
import secrets
import signal
import sys
import time
from collections.abc import Container
from contextlib import closing
from threading import Thread

import msgpack
import zmq

from connection import AT_ONCE, FULL, VERSION, Broker, Outcome, attached, default_name, host_name, parse, parser, whole

GRACE = 3.0  # seconds to wait for the Goodbye of a broker that sends nothing
SOON = 0.01  # seconds after which outcomes are sent although more are being computed


def divide(dividend: float, divisor: float) -> float:
    """Returns an integer if nothing remains."""
    quotient = dividend / divisor
    return quotient if dividend % divisor else dividend // divisor


def block(seconds: float) -> float:
    """Keeps its thread busy, as a long computation does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


signature = functools.cache(inspect.signature)
OPERATIONS = {"add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": divide, "block": block}


def compute(body: bytes) -> Outcome:
    """Returns the outcome of a request. No request may end the thread: every error is a reply."""
    try:
        operation, arguments = msgpack.unpackb(body)
        function = OPERATIONS[operation]
        if not all(isinstance(argument, (int, float)) for argument in arguments):
            raise TypeError("arguments are numbers")
        signature(function).bind(*arguments)
    except (ValueError, TypeError, KeyError) as error:
        return {"Error": ["invalid", f"not a request that this worker knows: {error}"[:200]]}
    try:
        return {"Ok": msgpack.packb(function(*arguments))}
    except (Exception, SystemExit) as error:  # for example an integer that does not fit into 64 bits
        return {"Error": ["failed", str(error)[:200]]}


def compute_forever(main_thread: zmq.Socket[bytes], held: Container[int]) -> None:
    """Runs the computing thread: receives lists of requests, sends their outcomes."""
    while True:
        requests = msgpack.unpackb(main_thread.recv())
        outcomes: list[tuple[int, Outcome]] = []
        size, began = 0, time.monotonic()
        for ticket, body in requests:
            if ticket not in held:
                continue  # cancelled, or dispatched over a connection that has broken since
            outcomes.append((ticket, outcome := compute(body)))
            size += len(outcome.get("Ok", b""))
            if len(outcomes) >= AT_ONCE or size >= FULL or time.monotonic() - began > SOON:
                main_thread.send(msgpack.packb(outcomes))
                outcomes, size, began = [], 0, time.monotonic()
        main_thread.send(msgpack.packb(outcomes))


class Computing:
    """The main thread's side of the computing thread."""

    def __init__(self) -> None:
        self.held: dict[int, None] = {}  # the tickets without a reply, in order; the first is being computed
        self.began = 0.0  # when the computation of the first began
        self.max_bytes = 0  # of a result
        context, address = zmq.Context.instance(), "inproc://computing"
        self.socket, other = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        for socket in self.socket, other:
            socket.sndhwm = socket.rcvhwm = 0  # neither thread ever blocks the other
        self.socket.bind(address)
        other.connect(address)
        # daemon: the process ends without waiting for a computation.
        Thread(target=compute_forever, args=(other, self.held), daemon=True).start()

    def start(self, requests: list[tuple[int, bytes]]) -> None:
        if not self.held:
            self.began = time.monotonic()
        self.held.update((ticket, None) for ticket, _ in requests)
        self.socket.send(msgpack.packb(requests))

    def pong(self, sequence: int) -> list[int]:
        """Returns the fields of a Pong.

        They are the number of requests being computed, the number waiting, and for how many
        milliseconds the first has been computed.
        """
        if not self.held:
            return [sequence, 0, 0, 0]
        return [sequence, 1, len(self.held) - 1, int((time.monotonic() - self.began) * 1000)]

    def cancel(self, tickets: list[int]) -> list[tuple[int, Outcome]]:
        """Forgets those of these requests that have not begun. Returns their replies."""
        waiting = self.held.keys() - {next(iter(self.held), None)}
        cancelled = [ticket for ticket in tickets if ticket in waiting]
        for ticket in cancelled:
            del self.held[ticket]
        return [(ticket, {"Error": ["cancelled", "the client no longer waits for it"]}) for ticket in cancelled]

    def replies(self) -> tuple[list[tuple[int, Outcome]], list[bytes]]:
        """Receives the next outcomes. Returns the replies, and the attachments of their message."""
        replies: list[tuple[int, Outcome]] = []
        attachments: list[bytes] = []
        for ticket, outcome in msgpack.unpackb(self.socket.recv()):
            if ticket not in self.held:
                continue  # dispatched over a connection that has broken since
            del self.held[ticket]
            if "Ok" in outcome:
                outcome = self.fitting(outcome["Ok"], attachments)
            replies.append((ticket, outcome))
        self.began = time.monotonic()
        return replies, attachments

    def fitting(self, result: bytes, attachments: list[bytes]) -> Outcome:
        """Returns the outcome for a result: an error if it is larger than the broker takes."""
        if len(result) <= self.max_bytes:
            return {"Ok": attached(result, attachments)}
        explanation = f"the result has {len(result)} bytes, and this broker takes {self.max_bytes} at most"
        return {"Error": ["failed", explanation]}


def serve(broker: Broker) -> str | None:
    """Works until the worker has left. Returns the reason if the broker refuses it."""
    computing = Computing()
    registered = leaving = False

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
        message, attachments = broker.receive(GRACE, computing.socket)
        match message:
            case "Readable":
                replies, attachments = computing.replies()
                if replies:
                    broker.send({"Replies": replies}, attachments)
            case {"Dispatch": [_priority, requests]}:
                computing.start([(ticket, whole(body, attachments)) for ticket, body in requests])
            case {"Cancel": tickets}:
                if replies := computing.cancel(tickets):
                    broker.send({"Replies": replies})
            case {"Ping": [sequence]}:
                broker.send({"Pong": computing.pong(sequence)})
            case {"Welcome": [_, number, _, _, max_bytes, *_]}:
                registered = True
                computing.max_bytes = max_bytes
                print(f"registered as w{number}", file=sys.stderr)
                if leaving:
                    broker.send("Leave")
            case "Goodbye":
                return None
            case "RegisterAgain" | "Hiccup" | None if leaving:
                return None  # Its requests have gone to other workers.
            case "RegisterAgain":
                computing.held.clear()
                broker.introduce()
            case "Hiccup":
                computing.held.clear()
                broker.reconnect()
            case {"Refused": [reason]} if not registered:
                return f"refused: {reason}"
            case "Closing":
                pass  # What still arrives is answered, too. Then the connection breaks.


def main() -> None:
    options = parse(parser(__doc__, "tcp://127.0.0.1:5556", default_name()))
    threads, window = 1, 0  # window 0: as many requests as the broker gives
    instance = secrets.randbelow(2**53 - 1) + 1  # by which the broker knows this process when it comes back
    introduction = [VERSION, options.name, options.pool, sorted(OPERATIONS), threads, window, instance, host_name()]
    with closing(Broker(options, {"Register": introduction})) as broker:
        sys.exit(serve(broker))


if __name__ == "__main__":
    main()
