"""A Flask application, served by gunicorn (sync workers or threads)."""

import os
import time

import requests
from flask import Flask, Response, request

NEXT = os.environ.get("NEXT", "")
app = Flask(__name__)


@app.get("/hello/<ident>")
def hello(ident):
    return f"hello {ident}\n"


@app.post("/echo/<ident>")
def echo(ident):
    return Response(request.get_data(), mimetype="application/octet-stream")


@app.get("/bytes/<int:count>/<ident>")
def many(count, ident):
    return Response(b"x" * count, mimetype="application/octet-stream")


@app.get("/stream/<int:count>/<ident>")
def stream(count, ident):
    def pieces():
        left = count
        while left > 0:
            yield b"y" * min(left, 1000)
            left -= min(left, 1000)

    return Response(pieces(), mimetype="application/octet-stream")


@app.get("/status/<int:code>/<ident>")
def status(code, ident):
    return Response(f"status {code}\n", status=code)


@app.get("/sleep/<int:millis>/<ident>")
def sleep(millis, ident):
    time.sleep(millis / 1000)
    return "slept\n"


@app.get("/call/<ident>")
def call(ident):
    return requests.get(f"{NEXT}/hello/{ident}", timeout=60).text
