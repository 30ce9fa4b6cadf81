// The same service on Node's own http module and on Express: server.mjs http|express PORT
import http from "node:http";
import express from "express";

const [, , flavour, port] = process.argv;
const next = process.env.NEXT ?? "";
const agent = new http.Agent({ keepAlive: true });

const body = async (stream) => {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
};

const fetchNext = (id) =>
  new Promise((resolve, reject) => {
    http.get(`${next}/hello/${id}`, { agent }, (answer) => body(answer).then(resolve, reject)).on("error", reject);
  });

const stream = (response, count) => {
  let left = Number(count);
  while (left > 0) {
    response.write("y".repeat(Math.min(left, 1000)));
    left -= 1000;
  }
  response.end();
};

const send = (response, status, content) => {
  response.writeHead(status, { "Content-Type": "text/plain", "Content-Length": Buffer.byteLength(content) });
  response.end(content);
};

const plain = async (request, response) => {
  const [what, first] = request.url.slice(1).split("/");
  switch (what) {
    case "hello":
      return send(response, 200, `hello ${first}\n`);
    case "echo":
      return send(response, 200, await body(request));
    case "bytes":
      return send(response, 200, "x".repeat(Number(first)));
    case "stream":
      return stream(response, first);
    case "status":
      return send(response, Number(first), `status ${first}\n`);
    case "sleep":
      return setTimeout(() => send(response, 200, "slept\n"), Number(first));
    case "call":
      return send(response, 200, await fetchNext(first));
    default:
      return send(response, 404, "no such page\n");
  }
};

const framework = () => {
  const app = express();
  app.get("/hello/:id", (request, response) => response.type("text").send(`hello ${request.params.id}\n`));
  app.post("/echo/:id", express.raw({ type: () => true, limit: "64mb" }), (request, response) =>
    response.type("application/octet-stream").send(Buffer.isBuffer(request.body) ? request.body : ""),
  );
  app.get("/bytes/:count/:id", (request, response) => response.type("text").send("x".repeat(Number(request.params.count))));
  app.get("/stream/:count/:id", (request, response) => stream(response, request.params.count));
  app.get("/status/:code/:id", (request, response) =>
    response.status(Number(request.params.code)).type("text").send(`status ${request.params.code}\n`),
  );
  app.get("/sleep/:millis/:id", (request, response) =>
    setTimeout(() => response.type("text").send("slept\n"), Number(request.params.millis)),
  );
  app.get("/call/:id", async (request, response) => response.type("text").send(String(await fetchNext(request.params.id))));
  return app;
};

http.createServer(flavour === "express" ? framework() : plain).listen(Number(port), "127.0.0.1", 1024);
