"""Runs WebSocket sessions by `websockets` and prints what each of them did. Arguments: base URL, compression or none; the sessions
come as a JSON list on standard input."""

import json
import socket
import struct
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

base, compression = sys.argv[1], sys.argv[2]


def run(plan):
    sent, received, code = [], [], None

    def send(websocket, message):
        websocket.send(message)
        sent.append(len(message))

    def receive(websocket):
        message = websocket.recv()
        received.append(len(message))

    websocket = connect(
        base + plan["path"],
        compression=None if compression == "none" else compression,
        ping_interval=None,
        max_size=None,
        proxy=None,
    )
    for op in plan["ops"]:
        if op[0] == "echo":
            send(websocket, b"e" * op[1])
            receive(websocket)
        else:
            send(websocket, f"push {op[1]} {op[2]}")
            for _ in range(op[1]):
                receive(websocket)
    by, number = plan["close"]
    if by == "client":
        websocket.close(number)
        code = websocket.protocol.close_code
    elif by == "server":
        send(websocket, f"bye {number}")
        try:
            websocket.recv()
        except ConnectionClosed as closed:
            code = closed.rcvd.code
    else:
        if by == "reset":
            websocket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The library's own thread waits in a call, during which no close takes place.
            websocket.socket.shutdown(socket.SHUT_RD)
        else:
            websocket.socket.shutdown(socket.SHUT_RDWR)
        websocket.socket.close()
    print(json.dumps({"path": plan["path"], "sent": sent, "received": received, "code": code}), flush=True)


for plan in json.load(sys.stdin):
    run(plan)
