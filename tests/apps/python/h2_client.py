"""Makes requests over HTTP/2 without TLS by httpx, and says on standard output what it did, one JSON object per line.

    h2_client.py client BASE CONCURRENCY              the requests of standard input, on one connection
    h2_client.py busy BASE CONNECTIONS STREAMS MILLIS requests on each connection until standard input ends

Input: METHOD <tab> PATH <tab> BODY BYTES <tab> traceparent or '-'.
"""

import asyncio
import json
import os
import sys
import time

import httpx

MODE, BASE = sys.argv[1], sys.argv[2]


def caller(**more):
    return httpx.AsyncClient(http1=False, http2=True, timeout=120, **more)


async def one(client, method, path, sent, traceparent):
    start = time.time_ns()
    # What comes but once drives what came before out of the connection's table.
    headers = {"te": "trailers", "x-request-id": f"{os.getpid():016x}-{start:016x}"}
    if traceparent != "-":
        headers["traceparent"] = traceparent
    async with client.stream(method, BASE + path, content=b"b" * sent or None, headers=headers) as answer:
        assert answer.http_version == "HTTP/2"
        received = sum([len(piece) async for piece in answer.aiter_raw()])
    line = {
        "method": method,
        "path": path,
        "status": answer.status_code,
        "sent": sent,
        "received": received,
        "start": start,
        "end": time.time_ns(),
        "pid": os.getpid(),
    }
    print(json.dumps(line), flush=MODE == "busy")


async def client(concurrency):
    todo = iter([line.rstrip("\n").split("\t") for line in sys.stdin])
    # Many connections in its pool, of which HTTP/2 needs one.
    async with caller() as session:

        async def work():
            for method, path, sent, traceparent in todo:
                await one(session, method, path, int(sent), traceparent)

        await asyncio.gather(*[work() for _ in range(concurrency)])


async def busy(connections, streams, millis):
    """Each body has a size of its own, which tells the exchanges apart where nothing else does. Half of the paths come only
    once, half of them again and again."""
    over = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def connection(i):
        numbers = iter(range(1, 1 << 30))
        async with caller(limits=httpx.Limits(max_connections=1)) as session:

            async def repeat():
                n = next(numbers)
                path = f"/echo/again{n // 2 % 8}" if n % 2 == 0 else f"/echo/{os.getpid()}c{i}n{n}"
                await one(session, "POST", path, n * connections + i, "-")
                await asyncio.sleep(millis / 1000)

            async def work():
                while not over.done():
                    await repeat()

            await repeat()
            await asyncio.gather(*[work() for _ in range(streams)])

    await asyncio.gather(*[connection(i) for i in range(connections)])


asyncio.run(client(int(sys.argv[3])) if MODE == "client" else busy(*map(int, sys.argv[3:])))
