// WebSocket sessions on `ws`, event streams and long polling on node:http, as in ../../python/rides. Argument: port.
import http from "node:http";
import { WebSocketServer } from "ws";

const server = http.createServer((request, response) => {
  const [, what, ...words] = request.url.split("/");
  if (what === "wait") {
    return setTimeout(() => response.end("done"), Number(words[0]));
  }
  const [count, gap] = words.map(Number);
  response.writeHead(200, { "content-type": "text/event-stream" });
  let n = 0;
  const next = () => {
    response.write(`id: ${n}\ndata: ${"x".repeat(20)}\n\n`);
    n += 1;
    if (n === count) {
      clearInterval(timer);
      response.end();
    }
  };
  const timer = setInterval(next, gap);
  response.on("close", () => clearInterval(timer));
});
const sessions = new WebSocketServer({ server, perMessageDeflate: true });
sessions.on("connection", (session) => {
  session.on("error", () => {});
  session.on("message", (message, isBinary) => {
    const [verb, ...words] = isBinary ? [] : message.toString().split(" ");
    if (verb === "push") {
      for (let i = 0; i < Number(words[0]); i++) session.send(Buffer.alloc(Number(words[1]), "p"));
    } else if (verb === "bye") {
      session.close(Number(words[0]));
    } else {
      session.send(message, { binary: isBinary });
    }
  });
});
server.listen(Number(process.argv[2]), "127.0.0.1");
