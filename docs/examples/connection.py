"""What the two examples share: the broker at the other end, its messages, the command line's part about it.

Written from docs/protocol.md alone, for the pyzmq that pip installs: it has not the options by which libzmq introduces
a peer by itself, so each connection has a socket of its own, over which the introduction is sent first. When libzmq's
monitor says that the connection broke, the socket goes, and whatever lay in it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import msgpack
import zmq
import zmq.auth

VERSION = 1

PAUSE = 0.1  # seconds before a broken connection is made anew
HEARTBEAT = 3000, 10000  # milliseconds: how often it is sent, and how long an answer may take

Message = Any  # as it is encoded: {"Ping": [7]}, "Closing"
Outcome = dict[str, Any]  # {"Ok": body} or {"Error": [code, explanation]}


class Broker:
    """The broker, over one connection after another."""

    def __init__(self, options: argparse.Namespace, introduction: Message) -> None:
        self.options, self.introduction = options, introduction
        self.connect()

    def connect(self) -> None:
        socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = 0  # sending never blocks; the protocol bounds what is sent
        socket.heartbeat_ivl, socket.heartbeat_timeout = HEARTBEAT
        if self.options.keys:
            socket.curve_publickey, socket.curve_secretkey = zmq.auth.load_certificate(self.options.keys)
            socket.curve_serverkey, _ = zmq.auth.load_certificate(self.options.broker_key)
        self.monitor: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        socket.connect(self.options.broker)
        self.socket = socket
        self.introduce()

    def reconnect(self) -> None:
        broken = self.socket, self.monitor
        time.sleep(PAUSE)
        self.connect()
        for socket in broken:
            socket.close()

    def close(self) -> None:
        self.socket.close()
        self.monitor.close()

    def introduce(self) -> None:
        self.send(self.introduction)

    def send(self, message: Message, attachments: Sequence[bytes] = ()) -> None:
        self.socket.send_multipart([msgpack.packb(message), *attachments])

    def receive(self, seconds: float) -> tuple[Message, list[bytes]]:
        """A message and its attachments; "Hiccup" if the connection broke, None if it was quiet for so long."""
        readable, _, _ = zmq.select([self.socket, self.monitor], [], [], seconds)
        if self.socket not in readable:
            return "Hiccup" if readable else None, []
        envelope, *attachments = self.socket.recv_multipart()
        return msgpack.unpackb(envelope), attachments


def whole(body: bytes | int, attachments: list[bytes]) -> bytes:
    """The body itself, if it was the index of an attachment."""
    return attachments[body] if isinstance(body, int) else body


def parser(description: str | None, endpoint: str, name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default=endpoint, help=f"where to connect ({endpoint})")
    parser.add_argument("--name", default=name, help=f"what the broker's log calls it ({name})")
    parser.add_argument("--pool", default="compute", help="the pool of workers (compute)")
    parser.add_argument("--keys", help="one's own secret certificate, for CURVE")
    parser.add_argument("--broker-key", help="the broker's public certificate, for CURVE")
    return parser
