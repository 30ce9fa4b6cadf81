// The service on Node's http2 module without TLS: h2_server.mjs PORT
import http2 from "node:http2";

const [, , port] = process.argv;
const next = process.env.NEXT ?? "";
let caller;

const body = async (stream) => {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
};

const fetchNext = (id) => {
  caller ??= http2.connect(next);
  return body(caller.request({ ":path": `/hello/${id}` }).end());
};

const send = (stream, status, content, isHead) => {
  stream.respond({ ":status": status, "content-type": "text/plain" }, { endStream: isHead });
  if (!isHead) stream.end(content);
};

const pieces = (stream, count) => {
  stream.respond({ ":status": 200 });
  for (let left = count; left > 0; left -= 1000) stream.write("y".repeat(Math.min(left, 1000)));
  stream.end();
};

const trailers = async (stream, count) => {
  await body(stream);
  stream.respond({ ":status": 200 }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": String(count) }));
  stream.end("t".repeat(count));
};

const serve = async (stream, headers) => {
  const [what, first] = headers[":path"].slice(1).split("/");
  const isHead = headers[":method"] === "HEAD";
  switch (what) {
    case "hello":
      return send(stream, 200, `hello ${first}\n`, isHead);
    case "echo":
      return send(stream, 200, await body(stream));
    case "bytes":
      return send(stream, 200, "x".repeat(Number(first)));
    case "stream":
      return pieces(stream, Number(first));
    case "trailers":
      return trailers(stream, Number(first));
    case "abort":
      stream.respond({ ":status": 200 });
      return stream.write("a".repeat(Number(first)), () => stream.destroy(new Error("given up")));
    case "status":
      return send(stream, Number(first), `status ${first}\n`, first === "204" || first === "304");
    case "sleep":
      return setTimeout(() => send(stream, 200, "slept\n"), Number(first));
    case "call":
      return send(stream, 200, await fetchNext(first));
    default:
      return send(stream, 404, "no such page\n");
  }
};

const server = http2.createServer({ settings: { maxConcurrentStreams: 1000 }, maxSessionMemory: 1000 });
server.on("stream", (stream, headers) => {
  // A client may reset a stream at any time.
  stream.on("error", () => {});
  serve(stream, headers).catch(() => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
});
server.on("sessionError", () => {});
server.listen(Number(port), "127.0.0.1", 1024);
