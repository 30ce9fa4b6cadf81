"""forks PORT COUNT: forks children, each of which makes one request and is gone, and prints their process ids. It makes none."""

import os
import socket
import sys

for number in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
            connection.sendall(b"GET /hello/%d HTTP/1.1\r\nHost: forks\r\nConnection: close\r\n\r\n" % number)
            while connection.recv(65536):
                pass
        os._exit(0)
    print(child)
    os.waitpid(child, 0)
