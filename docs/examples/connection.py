"""What the two examples share: the broker at the other end, its messages, the command line's part about it.

Written from docs/protocol.md alone, for the pyzmq that pip installs: it has not the options by which libzmq introduces
a peer by itself, so each connection has a socket of its own, over which the introduction is sent first. When libzmq's
monitor says that the connection broke, the socket goes, and whatever lay in it. When it says that the two don't come to
terms about keys, the program ends.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgpack
import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

VERSION = 2
LARGE = 64 * 1024  # bytes from which on a body travels as an attachment
AT_ONCE = 500  # requests or replies in one message
FULL = 256 * 1024  # bytes of bodies that fill a message: every broker takes frames of 1 MiB

PAUSE = 0.1  # seconds before a broken connection is made anew
LONG_PAUSE = 1.0  # the same if it did not get beyond the handshake
HEARTBEAT = 3000, 10000  # milliseconds: how often it is sent, and how long an answer may take

Message = Any  # as it is encoded: {"Ping": [7]}, "Closing"
Outcome = dict[str, Any]  # {"Ok": body} or {"Error": [code, explanation]}

BROKEN = zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class Broker:
    """The broker, over one connection after another."""

    def __init__(self, options: argparse.Namespace, introduction: Message) -> None:
        self.options, self.introduction = options, introduction
        self.in_vain = False  # whether the last handshake failed
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
        time.sleep(LONG_PAUSE if self.in_vain else PAUSE)
        self.connect()

    def close(self) -> None:
        self.socket.disable_monitor()  # first: libzmq would wait for a reader
        self.monitor.close()
        self.socket.close()

    def introduce(self) -> None:
        self.send(self.introduction)

    def send(self, message: Message, attachments: Sequence[bytes] = ()) -> None:
        """Sends it, if there is a connection: a signal may come in the pause between two."""
        if not self.socket.closed:
            self.socket.send_multipart([msgpack.packb(message), *attachments])

    def receive(self, seconds: float) -> tuple[Message, list[bytes]]:
        """A message and its attachments; "Hiccup" if the connection broke, None if it was quiet for so long."""
        readable, _, _ = zmq.select([self.socket, self.monitor], [], [], seconds)
        if self.socket in readable:
            envelope, *attachments = self.socket.recv_multipart()
            self.in_vain = False
            return msgpack.unpackb(envelope), attachments
        if self.monitor not in readable:
            return None, []
        self.look_at(recv_monitor_message(self.monitor)["event"])
        return "Hiccup", []

    def look_at(self, event: int) -> None:
        """Complains of a handshake that failed, and ends the program if it would fail again."""
        keys, broker = self.options.keys, self.options.broker
        match event:
            case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                sys.exit(f"refused: the broker at {broker} does not let this key in here")
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL if keys:
                sys.exit(f"refused: what is at {broker} has no keys, or is no broker")
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                sys.exit(f"refused: what is at {broker} wants --keys and --broker-key, or is no broker")
            case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL if not self.in_vain:
                self.in_vain = True
                # If one side has keys and the other none, only the one that notices first learns so, and hangs up.
                advice = "is --broker-key its public key, and has it keys at all?" if keys else "has it keys?"
                print(f"the connection to {broker} breaks in the handshake: {advice}", file=sys.stderr)


def whole(body: bytes | int, attachments: list[bytes]) -> bytes:
    """The body itself, if it was the index of an attachment."""
    return attachments[body] if isinstance(body, int) else body


def attached(body: bytes, attachments: list[bytes]) -> bytes | int:
    """The body itself, or the index of the attachment that it becomes if it is large."""
    if len(body) < LARGE:
        return body
    attachments.append(body)
    return len(attachments) - 1


def parser(description: str | None, endpoint: str, name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=endpoint, help=f"where to connect ({endpoint})")
    parser.add_argument("--name", default=name, help=f"what the broker's log calls it ({name})")
    parser.add_argument("--pool", default="compute", help="the pool of workers (compute)")
    parser.add_argument("--keys", type=certificate, help="one's own secret certificate, for CURVE")
    parser.add_argument("--broker-key", type=certificate, help="the broker's public certificate, for CURVE")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    options = parser.parse_args()
    if (options.keys is None) != (options.broker_key is None):
        parser.error("--keys and --broker-key belong together")
    if options.keys and options.keys[1] is None:
        parser.error("--keys is to name the secret certificate")
    return options


def certificate(path: str) -> tuple[bytes, bytes | None]:
    """The public key, and the secret one if the file has it."""
    try:
        return zmq.auth.load_certificate(path)
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from error
