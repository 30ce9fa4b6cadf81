"""Starlette under uvicorn: WebSocket sessions as in ws_server.py, event streams, an answer that is long in coming."""

import asyncio

from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect


async def session(websocket):
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            words = (message.get("text") or "").split()
            if words[:1] == ["push"]:
                for _ in range(int(words[1])):
                    await websocket.send_bytes(b"p" * int(words[2]))
            elif words[:1] == ["bye"]:
                return await websocket.close(int(words[1]))
            elif message.get("bytes") is not None:
                await websocket.send_bytes(message["bytes"])
            else:
                await websocket.send_text(message["text"])
    except WebSocketDisconnect:
        pass


async def events(request):
    """As many events as the path says, so many milliseconds apart; 0: without end."""
    count, gap = int(request.path_params["count"]), int(request.path_params["gap"]) / 1000

    async def each():
        n = 0
        while n < count or count == 0:
            yield {"id": str(n), "data": "x" * 20}
            n += 1
            await asyncio.sleep(gap)

    return EventSourceResponse(each(), ping=3600)


async def wait(request):
    await asyncio.sleep(int(request.path_params["gap"]) / 1000)
    return PlainTextResponse("done")


app = Starlette(
    routes=[
        WebSocketRoute("/ws/{id}", session),
        Route("/events/{count}/{gap}/{id}", events),
        Route("/wait/{gap}/{id}", wait),
    ]
)
