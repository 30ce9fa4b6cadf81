"""Makes the requests that its standard input lists, and says on standard output what it did, one JSON object per line.

    client.py requests|httpx BASE CONCURRENCY

Input: METHOD <tab> PATH <tab> BODY BYTES <tab> traceparent or '-'.
"""

import asyncio
import json
import os
import queue
import sys
import threading
import time

LIBRARY, BASE, CONCURRENCY = sys.argv[1], sys.argv[2], int(sys.argv[3])
PLAN = [line.rstrip("\n").split("\t") for line in sys.stdin]
LOCK = threading.Lock()


def told(method, path, sent, start, status, received):
    line = {
        "method": method,
        "path": path,
        "status": status,
        "sent": sent,
        "received": received,
        "start": start,
        "end": time.time_ns(),
        "pid": os.getpid(),
    }
    with LOCK:
        print(json.dumps(line), flush=False)


def headers(traceparent):
    return {} if traceparent == "-" else {"traceparent": traceparent}


def threads():
    import requests

    todo = queue.SimpleQueue()
    for call in PLAN:
        todo.put(call)

    def work():
        with requests.Session() as session:
            while True:
                try:
                    method, path, sent, traceparent = todo.get_nowait()
                except queue.Empty:
                    return
                body = b"b" * int(sent) or None
                start = time.time_ns()
                answer = session.request(
                    method, BASE + path, data=body, headers=headers(traceparent), timeout=120, allow_redirects=False
                )
                told(method, path, int(sent), start, answer.status_code, len(answer.content))

    workers = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


async def tasks():
    import httpx

    todo = iter(PLAN)
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx.AsyncClient(limits=limits, timeout=120) as client:

        async def work():
            for method, path, sent, traceparent in todo:
                body = b"b" * int(sent) or None
                start = time.time_ns()
                answer = await client.request(method, BASE + path, content=body, headers=headers(traceparent))
                told(method, path, int(sent), start, answer.status_code, len(answer.content))

        await asyncio.gather(*[work() for _ in range(CONCURRENCY)])


if LIBRARY == "requests":
    threads()
else:
    asyncio.run(tasks())
