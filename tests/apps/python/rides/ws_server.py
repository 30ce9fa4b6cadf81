"""WebSocket server on `websockets`: echoes, or does what a text message asks for. Argument: port."""

import asyncio
import sys

from websockets.asyncio.server import serve


async def session(websocket):
    async for message in websocket:
        words = message.split() if isinstance(message, str) else []
        if words[:1] == ["push"]:
            for _ in range(int(words[1])):
                await websocket.send(b"p" * int(words[2]))
        elif words[:1] == ["bye"]:
            await websocket.close(int(words[1]))
        else:
            await websocket.send(message)


async def main():
    async with serve(session, "127.0.0.1", int(sys.argv[1]), ping_interval=None, max_size=None):
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
