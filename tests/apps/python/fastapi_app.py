"""A FastAPI application, served by uvicorn: every request is a task of one event loop."""

import asyncio
import os
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse

NEXT = os.environ.get("NEXT", "")


@asynccontextmanager
async def lifespan(app):
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/hello/{ident}", response_class=PlainTextResponse)
async def hello(ident: str):
    return f"hello {ident}\n"


@app.post("/echo/{ident}")
async def echo(ident: str, request: Request):
    return Response(await request.body(), media_type="application/octet-stream")


@app.get("/bytes/{count}/{ident}")
async def many(count: int, ident: str):
    return Response(b"x" * count, media_type="application/octet-stream")


@app.get("/stream/{count}/{ident}")
async def stream(count: int, ident: str):
    async def pieces():
        left = count
        while left > 0:
            yield b"y" * min(left, 1000)
            left -= min(left, 1000)

    return StreamingResponse(pieces(), media_type="application/octet-stream")


@app.get("/status/{code}/{ident}")
async def status(code: int, ident: str):
    return PlainTextResponse(f"status {code}\n", status_code=code)


@app.get("/sleep/{millis}/{ident}", response_class=PlainTextResponse)
async def sleep(millis: int, ident: str):
    await asyncio.sleep(millis / 1000)
    return "slept\n"


@app.get("/call/{ident}", response_class=PlainTextResponse)
async def call(ident: str, request: Request):
    return (await request.app.state.client.get(f"{NEXT}/hello/{ident}")).text
