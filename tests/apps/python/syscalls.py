"""Both ends of HTTP exchanges whose bytes move by every system call that moves bytes of a socket.

    syscalls.py tcp|tcp6|unix ADDRESS [WITHOUT...]

Says on standard output what it did, one JSON object per line. Each exchange is a POST of BODY bytes answered with ANSWER
bytes; the way in the path is the one that moves the request out and the answer in at the client, and the request in and the
answer out at the server. WITHOUT are ways to leave out, as they stand in the paths: write/recv.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time

BODY, ANSWER = 3000, 50_000
LIBC = ctypes.CDLL(None, use_errno=True)
MSG_WAITFORONE = 0x10000


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Message(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.POINTER(Iovec)),
        ("iov_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("moved", ctypes.c_uint),
    ]


def messages(call, sock, buffers, *more):
    """sendmmsg or recvmmsg of one message for each buffer: the bytes moved."""
    vector = (Message * len(buffers))()
    for message, buffer in zip(vector, buffers):
        iov = Iovec(ctypes.addressof(buffer), len(buffer))
        message.iov, message.iov_count = ctypes.pointer(iov), 1
    count = call(sock.fileno(), vector, len(buffers), *more)
    if count < 0:
        raise OSError(ctypes.get_errno(), "mmsg")
    return [message.moved for message in vector[:count]]


def vectored(call, fd, buffers):
    """preadv2 or pwritev2 at no offset: the bytes moved."""
    vector = (Iovec * len(buffers))(*[Iovec(ctypes.addressof(buffer), len(buffer)) for buffer in buffers])
    moved = call(fd, vector, len(buffers), ctypes.c_long(-1), 0)
    if moved < 0:
        raise OSError(ctypes.get_errno(), "vectored")
    return moved


def pieces(data, size):
    return [data[i : i + size] for i in range(0, len(data), size)]


def write(sock, way, head, body):
    """Writes head and body by this way."""
    fd, data = sock.fileno(), head + body
    if way == "write":
        while data:
            data = data[os.write(fd, data) :]
    elif way == "writev":
        os.writev(fd, [head[:10], head[10:], *pieces(body, 7000)])
    elif way == "sendto":
        # What Python's send makes of it is sendto with no address; a whole body may take several calls.
        while data:
            data = data[sock.send(data) :]
    elif way == "sendmsg":
        sock.sendmsg([head[:1], b"", head[1:], *pieces(body, 9000)])
    elif way == "sendmmsg":
        # The head in three messages, the body in twenty; the kernel may take fewer at once.
        left = [head[:7], head[7:30], head[30:], *pieces(body, len(body) // 20)]
        while left:
            buffers = [ctypes.create_string_buffer(piece, len(piece)) for piece in left]
            for moved in messages(LIBC.sendmmsg, sock, buffers, 0):
                left[0] = left[0][moved:]
                if not left[0]:
                    left.pop(0)
    elif way == "pwritev2":
        while data:
            buffers = [ctypes.create_string_buffer(piece, len(piece)) for piece in (data[:10], data[10:]) if piece]
            data = data[vectored(LIBC.pwritev2, fd, buffers) :]
    elif way == "sendfile":
        sock.sendall(head, socket.MSG_MORE)
        with tempfile.TemporaryFile() as file:
            file.write(body)
            file.flush()
            done = 0
            while done < len(body):
                done += os.sendfile(fd, file.fileno(), done, len(body) - done)
    elif way == "splice":
        sock.sendall(head)
        source, sink = os.pipe()
        for piece in pieces(body, 4096):
            os.write(sink, piece)
            left = len(piece)
            while left:
                left -= os.splice(source, fd, left)
        os.close(source)
        os.close(sink)
    elif way == "nonblocking":
        sock.setblocking(False)
        while data:
            try:
                data = data[sock.send(data) :]
            except BlockingIOError:
                time.sleep(0.001)
        sock.setblocking(True)
    elif way == "dup":
        other = os.dup(fd)
        os.write(other, head)
        os.close(other)
        sock.sendall(body)
    elif way == "fork":
        child = os.fork()
        if child == 0:
            sock.sendall(data)
            os._exit(0)
        os.waitpid(child, 0)
    elif way == "passed":
        passed(sock, data)
    else:
        sock.sendall(data)


def passed(sock, data):
    """Another process, which did not inherit the descriptor, writes."""
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        here.close()
        sock.close()
        _, descriptors, _, _ = socket.recv_fds(there, 1, 1)
        got = socket.socket(fileno=descriptors[0])
        got.sendall(data)
        os._exit(0)
    socket.send_fds(here, [b"x"], [sock.fileno()])
    os.waitpid(child, 0)
    here.close()
    there.close()


def read(sock, way, body):
    """Reads a head and `body` bytes by this way: the head."""
    fd, data, length = sock.fileno(), b"", None
    while length is None or len(data) < length:
        if length is None and b"\r\n\r\n" in data:
            length = data.index(b"\r\n\r\n") + 4 + body
            continue
        want = 2000 if length is None else length - len(data)
        if way == "read":
            piece = os.read(fd, min(want, 1000))
        elif way == "readv":
            buffers = [bytearray(100), bytearray(1), bytearray(2000)]
            moved = os.readv(fd, buffers)
            piece = b"".join(buffers)[:moved]
        elif way == "recvmsg":
            piece = b"".join([bytes(part) for part in recvmsg_into(sock, want)])
        elif way == "recvmmsg":
            # Head and body by several messages, and no more than what is left.
            buffers, room = [], want
            for size in (60, 500, 1000, 2000):
                if room:
                    buffers.append(ctypes.create_string_buffer(min(size, room)))
                    room -= len(buffers[-1])
            moved = messages(LIBC.recvmmsg, sock, buffers, MSG_WAITFORONE, None)
            piece = b"".join(buffer.raw[:count] for buffer, count in zip(buffers, moved))
        elif way == "preadv2":
            buffers = [ctypes.create_string_buffer(size) for size in (min(want, 100), min(max(want - 100, 1), 1900))]
            moved = vectored(LIBC.preadv2, fd, buffers if want > 100 else buffers[:1])
            piece = b"".join(buffer.raw for buffer in buffers)[:moved]
        elif way == "peek":
            seen = sock.recv(want, socket.MSG_PEEK)
            piece = sock.recv(len(seen))
        elif way == "waitall" and length is not None:
            piece = sock.recv(want, socket.MSG_WAITALL)
        elif way == "trunc" and length is not None and sock.family != socket.AF_UNIX:
            # The kernel throws the bytes away and says how many.
            buffer = bytearray(want)
            piece = bytes(sock.recv_into(buffer, want, socket.MSG_TRUNC))
        elif way == "splice" and length is not None:
            source, sink = os.pipe()
            piece = bytes(os.splice(fd, sink, min(want, 4096)))
            os.close(source)
            os.close(sink)
        elif way == "nonblocking":
            try:
                piece = sock.recv(want, socket.MSG_DONTWAIT)
            except BlockingIOError:
                time.sleep(0.001)
                continue
        else:
            piece = sock.recvfrom(want)[0]
        if not piece:
            raise EOFError(way)
        data += piece
    return data


def recvmsg_into(sock, want):
    first, second = bytearray(10), bytearray(max(want - 10, 1))
    moved = sock.recvmsg_into([first, second])[0]
    return [first[:moved], second[: max(moved - 10, 0)]]


WRITES = [
    "send", "write", "writev", "sendto", "sendmsg", "pwritev2", "sendmmsg", "sendfile", "splice", "nonblocking", "dup",
    "fork", "passed",
]
READS = ["recv", "read", "readv", "preadv2", "recvmsg", "recvmmsg", "peek", "waitall", "trunc", "splice", "nonblocking"]


def serve(listener):
    sock, _ = listener.accept()
    for way_out, way_in in WAYS:
        read(sock, way_in, BODY)
        write(sock, way_out, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % ANSWER, b"a" * ANSWER)
    if sock.recv(1):
        raise RuntimeError("more than was sent")


FAMILY, ADDRESS = sys.argv[1], sys.argv[2]
signal.alarm(60)  # a way that moves less than it should would leave both ends waiting
WAYS = [(way, "recv") for way in WRITES] + [("send", way) for way in READS]
WAYS = [way for way in WAYS if "/".join(way) not in sys.argv[3:]]
if FAMILY == "unix":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(ADDRESS)
else:
    listener = socket.socket(socket.AF_INET6 if FAMILY == "tcp6" else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::1" if FAMILY == "tcp6" else "127.0.0.1", int(ADDRESS)))
listener.listen()
server = threading.Thread(target=serve, args=(listener,), daemon=True)
server.start()
client = socket.socket(listener.family)
client.connect(listener.getsockname())
if FAMILY != "unix":
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for number, (way_out, way_in) in enumerate(WAYS):
    path = f"/{way_out}/{way_in}/{FAMILY}{os.getpid()}n{number}"
    head = f"POST {path} HTTP/1.1\r\nHost: test:{ADDRESS if FAMILY != 'unix' else 80}\r\nContent-Length: {BODY}\r\n\r\n"
    start = time.time_ns()
    write(client, way_out, head.encode(), b"b" * BODY)
    read(client, way_in, ANSWER)
    line = {"method": "POST", "path": path, "status": 200, "sent": BODY, "received": ANSWER}
    print(json.dumps({**line, "start": start, "end": time.time_ns(), "pid": os.getpid()}))
client.close()
server.join()
