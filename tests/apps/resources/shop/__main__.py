"""shop PORT [REQUESTS [PROGRAM ARGUMENT...]]: answers with its process id; after so many requests it ends at once, or becomes
the other program."""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
left = int(sys.argv[2]) if len(sys.argv) > 2 else -1
while left != 0:
    server.handle_request()
    left -= 1
if len(sys.argv) > 3:
    server.server_close()
    os.execv(sys.argv[3], sys.argv[3:])
os._exit(0)
