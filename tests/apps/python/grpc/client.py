"""The calls of standard input (one JSON object per line) by grpc.aio; what was done goes to standard output, one JSON object
per line: client.py PORT CONCURRENCY CHANNELS"""

import asyncio
import json
import os
import sys
import time

import grpc

port, concurrency, channels = map(int, sys.argv[1:])


async def exchange(channel, one, done):
    name = one["method"].rpartition("/")[2]
    metadata = [("x-call", one["id"]), ("x-do", one["do"])]
    if one["traceparent"]:
        metadata.append(("traceparent", one["traceparent"]))
    path, message = "/" + one["method"], bytes(one["size"])
    options = {
        "metadata": metadata,
        "timeout": one["deadline"] / 1000 or None,
        "compression": grpc.Compression.Gzip if one["gzip"] else None,
    }

    def sent():
        done["sent"] += 1
        done["sent_bytes"] += one["size"]

    def received(reply):
        done["received"] += 1
        done["received_bytes"] += len(reply)

    if name == "Collect":
        call = channel.stream_unary(path)(**options)
    elif name == "Spread":
        call = channel.unary_stream(path)(message, **options)
    elif name == "Chat":
        call = channel.stream_stream(path)(**options)
    else:
        call = channel.unary_unary(path)(message, **options)
    cancelled = []
    timer = None
    if one["cancel"]:
        timer = asyncio.get_running_loop().call_later(one["cancel"] / 1000, lambda: cancelled.append(call.cancel()))
    try:
        if name in ("Collect", "Chat"):
            for i in range(one["count"]):
                if i and one["pause"]:
                    await asyncio.sleep(one["pause"] / 1000)
                await call.write(message)
                sent()
                if name == "Chat":
                    reply = await call.read()
                    if reply is grpc.aio.EOF:
                        break
                    received(reply)
            await call.done_writing()
        else:
            sent()
        if name in ("Spread", "Chat"):
            while (reply := await call.read()) is not grpc.aio.EOF:
                received(reply)
        else:
            reply = await call
            received(reply)
            if name == "Where":
                done["port"] = int(reply)
    except (grpc.RpcError, asyncio.CancelledError, asyncio.InvalidStateError):
        pass
    finally:
        if timer:
            timer.cancel()
    done["code"], done["message"] = (await call.code()).value[0], await call.details() or ""
    # So aio calls a message that was being written when the call was cancelled.
    if cancelled and done["message"] == "Internal error from Core":
        done["code"] = grpc.StatusCode.CANCELLED.value[0]


async def work(channel, plan):
    while (one := await plan.get()) is not None:
        done = {"id": one["id"], "method": one["method"], "sent": 0, "sent_bytes": 0, "received": 0, "received_bytes": 0}
        done.update(start=time.time_ns(), pid=os.getpid(), port=0)
        await exchange(channel, one, done)
        done["end"] = time.time_ns()
        print(json.dumps(done), flush=True)


async def main():
    # Without a pool of its own each would share one connection.
    options = [("grpc.use_local_subchannel_pool", 1)]
    opened = [grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) for _ in range(channels)]
    plan = asyncio.Queue(concurrency)
    workers = [asyncio.create_task(work(opened[i % channels], plan)) for i in range(concurrency)]
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        await plan.put(json.loads(line))
    for _ in workers:
        await plan.put(None)
    await asyncio.gather(*workers)
    for channel in opened:
        await channel.close()


asyncio.run(main())
