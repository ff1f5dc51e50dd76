"""A minimal client of Giostra.

    python short_client.py ENDPOINT OPERATION NUMBER.. [OWN.key_secret BROKER.key]

It lacks what client.py does: sending everything unanswered again over a new socket when the
connection breaks, waiting for Credit after Rejected, large bodies as attachments, many requests at
once. After ten seconds without a message it gives up.
"""

import sys

import msgpack
import zmq
import zmq.auth

endpoint, operation, *rest = sys.argv[1:]
keys = [word for word in rest if ".key" in word]
numbers = [float(word) if "." in word else int(word) for word in rest if word not in keys]

socket = zmq.Context.instance().socket(zmq.DEALER)
socket.linger, socket.rcvtimeo = 0, 10_000
if keys:
    (socket.curve_publickey, socket.curve_secretkey) = zmq.auth.load_certificate(keys[0])
    socket.curve_serverkey, _ = zmq.auth.load_certificate(keys[1])
socket.connect(endpoint)
socket.send(msgpack.packb({"Hello": [4, "short-client"]}))

while True:
    try:
        envelope, *attachments = socket.recv_multipart()
    except zmq.Again:
        sys.exit("no answer within 10 s: is the broker there, and are the keys right?")
    match msgpack.unpackb(envelope):
        case {"Welcome": [_, _, session, *_]}:
            body = msgpack.packb([operation, numbers])
            socket.send(msgpack.packb({"Submit": [session, "compute", 10_000, "Normal", True, [[1, body]]]}))
        case {"Replies": [[1, {"Ok": body}, _]]}:
            print(msgpack.unpackb(attachments[body] if isinstance(body, int) else body))
            sys.exit()
        case {"Replies": [[1, {"Error": [code, explanation]}, _]]}:
            sys.exit(f"{code}: {explanation}")
        case {"Refused": [reason]} | {"Declined": [reason, _]}:
            sys.exit(f"refused: {reason}")
