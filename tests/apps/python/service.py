"""A plain HTTP service on the standard library: one thread per connection."""

import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NEXT = os.environ.get("NEXT", "")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        what, *rest = self.path.strip("/").split("/")
        if what == "hello":
            self.answer(f"hello {rest[0]}\n".encode())
        elif what == "bytes":
            self.answer(b"x" * int(rest[0]))
        elif what == "status":
            self.answer(f"status {rest[0]}\n".encode(), int(rest[0]))
        elif what == "sleep":
            time.sleep(int(rest[0]) / 1000)
            self.answer(b"slept\n")
        elif what == "stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            left = int(rest[0])
            while left > 0:
                piece = b"y" * min(left, 1000)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                left -= len(piece)
            self.wfile.write(b"0\r\n\r\n")
        elif what == "call":
            with urllib.request.urlopen(f"{NEXT}/hello/{rest[0]}") as response:
                self.answer(response.read())
        else:
            self.answer(b"no such page\n", 404)

    do_HEAD = do_GET

    def do_POST(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True


if __name__ == "__main__":
    Server((os.environ.get("ADDRESS", "127.0.0.1"), int(sys.argv[1])), Handler).serve_forever()
