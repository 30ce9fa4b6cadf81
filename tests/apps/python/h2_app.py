"""The service as an ASGI application, for servers that speak HTTP/2: `hypercorn h2_app:app`."""

import asyncio
import os

import httpx

NEXT = os.environ.get("NEXT", "")
CALLER = None


async def body_of(receive):
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def app(scope, receive, send):
    global CALLER
    if scope["type"] != "http":
        return
    what, _, rest = scope["path"].lstrip("/").partition("/")
    first = rest.split("/")[0]

    async def answer(status, *pieces, trailers=None):
        headers = [(b"content-type", b"text/plain")]
        start = {"type": "http.response.start", "status": status, "headers": headers}
        await send(start | ({"trailers": True} if trailers else {}))
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if trailers:
            await send({"type": "http.response.trailers", "headers": trailers, "more_trailers": False})

    match what:
        case "hello":
            await answer(200, f"hello {first}\n".encode())
        case "echo":
            await answer(200, await body_of(receive))
        case "bytes":
            await answer(200, b"x" * int(first))
        case "stream":
            await answer(200, *[b"y" * min(1000, int(first) - at) for at in range(0, int(first), 1000)])
        case "trailers":
            await body_of(receive)
            await answer(200, b"t" * int(first), trailers=[(b"x-sum", first.encode())])
        case "status":
            await answer(int(first), *([] if first in ("204", "304") else [f"status {first}\n".encode()]))
        case "sleep":
            await asyncio.sleep(int(first) / 1000)
            await answer(200, b"slept\n")
        case "call":
            CALLER = CALLER or httpx.AsyncClient(http1=False, http2=True, timeout=60)
            await answer(200, (await CALLER.get(f"{NEXT}/hello/{first}")).content)
        case _:
            await answer(404, b"no such page\n")
