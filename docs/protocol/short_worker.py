"""A minimal worker of Giostra, which adds.

    python short_worker.py ENDPOINT NAME [OWN.key_secret BROKER.key]

It lacks what worker.py does: computing in another thread (this one answers no pings while it
computes, so its operation has to be short), registering again over a new socket when the connection
breaks (this one ends), leaving at a signal (what this one holds when it is killed goes to others),
large results as attachments, an error for a result that is larger than a message may be.
"""

import sys

import msgpack
import zmq
import zmq.auth

endpoint, name, *keys = sys.argv[1:]
socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger, socket.rcvtimeo = 1000, 10_000  # The broker pings every second, unless it was told otherwise.
if keys:
    (socket.curve_publickey, socket.curve_secretkey) = zmq.auth.load_certificate(keys[0])
    socket.curve_serverkey, _ = zmq.auth.load_certificate(keys[1])
socket.connect(endpoint)
register = {"Register": [4, name, "compute", ["add"], 1, 0]}
socket.send(msgpack.packb(register))


def outcome(body: bytes) -> dict:
    try:
        operation, (left, right) = msgpack.unpackb(body)
        return {"Ok": msgpack.packb({"add": left + right}[operation])}
    except Exception as error:  # no request may end the worker
        return {"Error": ["invalid", f"this worker adds two numbers: {error!r}"[:200]]}


while True:
    try:
        envelope, *attachments = socket.recv_multipart()
    except zmq.Again:
        sys.exit("nothing heard for 10 s: is the broker there, and are the keys right?")
    match msgpack.unpackb(envelope):
        case {"Dispatch": [_priority, requests]}:
            bodies = ((ticket, attachments[body] if isinstance(body, int) else body) for ticket, body in requests)
            socket.send(msgpack.packb({"Replies": [[ticket, outcome(body)] for ticket, body in bodies]}))
        case {"Ping": [sequence]}:
            socket.send(msgpack.packb({"Pong": [sequence, 0, 0, 0]}))
        case "RegisterAgain":
            socket.send(msgpack.packb(register))
        case {"Refused": [reason]}:
            sys.exit(f"refused: {reason}")
        case "Goodbye":
            sys.exit()
