"""What client.py and worker.py share: the connection to the broker, its messages, the options.

Written from docs/protocol.md alone, for the pyzmq that pip installs. It lacks the options
ZMQ_HELLO_MSG and ZMQ_HICCUP_MSG, with which libzmq would introduce itself over each new connection.
So each connection has a socket of its own, and the introduction is its first message. When
libzmq's monitor reports that the connection broke, the socket is closed with everything queued in
it. When it reports that the keys do not match, the program ends.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgpack
import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

VERSION = 4
LARGE = 64 * 1024  # bytes from which on a body travels as an attachment
AT_ONCE = 500  # requests or replies in one message
FULL = 256 * 1024  # bytes of bodies after which a message is sent: every broker takes frames of 1 MiB

PAUSE = 0.1  # seconds before the next connection
LONG_PAUSE = 1.0  # the same after a handshake that failed
HEARTBEAT = 3000, 10000  # milliseconds between libzmq's heartbeats, and until an answer is overdue

Message = Any  # decoded: {"Ping": [7]}, "Closing"
Outcome = dict[str, Any]  # {"Ok": body} or {"Error": [code, explanation]}

BROKEN = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class Broker:
    """The broker: one connection after another."""

    def __init__(self, options: argparse.Namespace, introduction: Message) -> None:
        self.options, self.introduction = options, introduction
        self.handshake_failed = False  # the last one
        self.connect()

    def connect(self) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = 0  # sending never blocks; the protocol bounds what is sent
        socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT
        if self.options.keys:
            socket.curve_publickey, socket.curve_secretkey = self.options.keys
            socket.curve_serverkey, _ = self.options.broker_key
        self.monitor: zmq.Socket[bytes] = socket.get_monitor_socket(BROKEN | REFUSED)
        socket.connect(self.options.broker)
        self.socket = socket
        self.introduce()

    def reconnect(self) -> None:
        self.close()
        time.sleep(LONG_PAUSE if self.handshake_failed else PAUSE)
        self.connect()

    def close(self) -> None:
        self.socket.disable_monitor()  # first: otherwise libzmq waits for a reader
        self.monitor.close()
        self.socket.close()

    def introduce(self) -> None:
        self.send(self.introduction)

    def send(self, message: Message, attachments: Sequence[bytes] = ()) -> None:
        """Sends a message, unless a signal handler calls this between two connections."""
        if not self.socket.closed:
            self.socket.send_multipart([msgpack.packb(message), *attachments])

    def receive(self, seconds: float, *others: zmq.Socket[bytes]) -> tuple[Message, list[bytes]]:
        """Returns the next message and its attachments.

        In place of a message: "Hiccup" if the connection broke, "Readable" if one of the other
        sockets has something, None if nothing came within these seconds.
        """
        readable, _, _ = zmq.select([self.socket, self.monitor, *others], [], [], seconds)
        if self.socket in readable:
            envelope, *attachments = self.socket.recv_multipart()
            self.handshake_failed = False
            return msgpack.unpackb(envelope), attachments
        if self.monitor in readable:
            self.check(recv_monitor_message(self.monitor)["event"])
            return "Hiccup", []
        return "Readable" if readable else None, []

    def check(self, event: int) -> None:
        """Reports a failed handshake, and ends the program if the next one would fail, too."""
        keys, broker = self.options.keys, self.options.broker
        match event:
            case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                sys.exit(f"refused: the broker at {broker} does not let this key in here")
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if keys:
                sys.exit(f"refused: what is at {broker} has no keys, or is no broker")
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                sys.exit(f"refused: what is at {broker} wants --keys and --broker-key, or is no broker")
            case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL if not self.handshake_failed:
                self.handshake_failed = True
                # If only one side has keys, the side that detects it closes the connection. The
                # other side does not learn why.
                advice = "is --broker-key its public key, and has it keys at all?" if keys else "has it keys?"
                print(f"the connection to {broker} breaks in the handshake: {advice}", file=sys.stderr)


def whole(body: bytes | int, attachments: list[bytes]) -> bytes:
    """Returns a received body, which may be the index of an attachment."""
    return attachments[body] if isinstance(body, int) else body


def attached(body: bytes, attachments: list[bytes]) -> bytes | int:
    """Returns a body as it is sent: a large one becomes an attachment, named by its index."""
    if len(body) < LARGE:
        return body
    attachments.append(body)
    return len(attachments) - 1


def default_name() -> str:
    """Returns host and process id, such as render7-4711: in a container each program is process 1."""
    return f"{host_name()[-40:] or 'host'}-{os.getpid()}"


def host_name() -> str:
    """Returns the name of this machine as one word; may be empty."""
    return re.sub("[^A-Za-z0-9._-]", "-", platform.node())[:64]


def parser(description: str | None, endpoint: str, name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=endpoint, help=f"where to connect ({endpoint})")
    parser.add_argument("--name", default=name, help=f"its name in the broker's log ({name})")
    parser.add_argument("--pool", default="compute", help="the pool of workers (compute)")
    parser.add_argument("--keys", type=certificate, help="own secret certificate, for CURVE")
    parser.add_argument("--broker-key", type=certificate, help="the broker's public certificate, for CURVE")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    options = parser.parse_args()
    if (options.keys is None) != (options.broker_key is None):
        parser.error("--keys and --broker-key belong together")
    if options.keys and options.keys[1] is None:
        parser.error("--keys takes the secret certificate")
    return options


def certificate(path: str) -> tuple[bytes, bytes | None]:
    """Returns the public key, and the secret key if the file has it."""
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
