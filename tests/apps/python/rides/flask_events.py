"""Flask under gunicorn: event streams and long polling as in asgi.py."""

import time

from flask import Flask, Response

app = Flask(__name__)


@app.get("/events/<int:count>/<int:gap>/<id>")
def events(count, gap, id):
    def each():
        n = 0
        while n < count or count == 0:
            yield f"id: {n}\ndata: {'x' * 20}\n\n"
            n += 1
            time.sleep(gap / 1000)

    return Response(each(), mimetype="text/event-stream")


@app.get("/wait/<int:gap>/<id>")
def wait(gap, id):
    time.sleep(gap / 1000)
    return "done"
