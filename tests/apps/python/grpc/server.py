"""The echo services by grpcio, a pool of threads: server.py PORT"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc


def wish(context):
    """Replies, their size, the status and milliseconds to wait."""
    for name, value in context.invocation_metadata():
        if name == "x-do":
            return [int(part) for part in value.split(",")]
    return [0, 0, 0, 0]


def finish(context, status, sleep):
    time.sleep(sleep / 1000)
    if status:
        code = next(code for code in grpc.StatusCode if code.value[0] == status)
        context.abort(code, "as wished: €")


def unary(message, context):
    _, size, status, sleep = wish(context)
    finish(context, status, sleep)
    return bytes(size)


def where(message, context):
    return context.peer().rpartition(":")[2].encode()


def collect(messages, context):
    for _ in messages:
        pass
    return unary(None, context)


def spread(message, context):
    replies, size, status, sleep = wish(context)
    for _ in range(replies):
        yield bytes(size)
    finish(context, status, sleep)


def chat(messages, context):
    replies, size, status, sleep = wish(context)
    for _ in range(replies):
        if next(messages, None) is None:
            break
        yield bytes(size)
    finish(context, status, sleep)


handlers = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Where": grpc.unary_unary_rpc_method_handler(where),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Spread": grpc.unary_stream_rpc_method_handler(spread),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}

if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(80), options=[("grpc.so_reuseport", 0)])
    for i in range(16):
        service = grpc.method_handlers_generic_handler(f"test.Echo{i}", handlers)
        server.add_generic_rpc_handlers((service,))
    assert server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()
