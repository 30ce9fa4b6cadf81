// Requests over HTTP/2 without TLS by Node's http2 module; what was done goes to standard output, one JSON object per line.
//   h2_client.mjs client BASE CONCURRENCY              the requests of standard input, on one connection
//   h2_client.mjs busy BASE CONNECTIONS STREAMS MILLIS requests on each connection until standard input ends
// Input: METHOD, PATH, BODY BYTES, traceparent or '-', by tabs.
import fs from "node:fs";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";

const [, , mode, base, ...numbers] = process.argv;
const now = () => Math.round((performance.timeOrigin + performance.now()) * 1e6);

const one = (session, method, path, sent, traceparent) =>
  new Promise((resolve, reject) => {
    const start = now();
    // What comes but once drives what came before out of the connection's table.
    const unique = `${process.pid.toString(16).padStart(16, "0")}-${start.toString(16)}-${path.length}`;
    const headers = { ":method": method, ":path": path, "user-agent": "node-http2", te: "trailers", "x-request-id": unique };
    if (traceparent !== "-") headers.traceparent = traceparent;
    const sends = path.startsWith("/trailers/") && sent > 0;
    const stream = session.request(headers, { endStream: sent === 0, waitForTrailers: sends });
    let status = 0;
    let received = 0;
    let enough = false;
    let sum = !path.startsWith("/trailers/");
    if (sends) stream.on("wantTrailers", () => stream.sendTrailers({ "x-sent": String(sent) }));
    stream.on("trailers", () => (sum = true));
    stream.on("response", (answer) => (status = answer[":status"]));
    stream.on("data", (piece) => {
      received += piece.length;
      if (path.startsWith("/endless/") && received >= 3000 && !enough) {
        enough = true;
        stream.close(http2.constants.NGHTTP2_CANCEL);
      }
    });
    stream.on("error", (error) => path.startsWith("/abort/") || reject(error));
    stream.on("close", () => {
      if (!sum) return reject(new Error(`no trailers: ${path}`));
      resolve({ method, path, status, sent, received, start, end: now(), pid: process.pid });
    });
    if (sent > 0) stream.end("b".repeat(sent));
  });

const connect = () =>
  new Promise((resolve, reject) => {
    const session = http2.connect(base, { maxSessionMemory: 1000 }, () => resolve(session));
    session.on("error", reject);
  });

const client = async (concurrency) => {
  const plan = fs.readFileSync(0, "utf8").split("\n").filter(Boolean);
  const session = await connect();
  const lines = [];
  const work = async () => {
    for (let line = plan.shift(); line !== undefined; line = plan.shift()) {
      const [method, path, size, traceparent] = line.split("\t");
      lines.push(JSON.stringify(await one(session, method, path, Number(size), traceparent)));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  console.log(lines.join("\n"));
  session.close();
};

// Each body has a size of its own, which tells the exchanges apart where nothing else does. Half of the paths come only once, half of
// them again and again.
const busy = async (connections, streams, millis) => {
  let over = false;
  process.stdin.on("end", () => (over = true)).resume();
  const connection = async (i) => {
    const session = await connect();
    let count = 0;
    const repeat = async () => {
      const n = ++count;
      const path = n % 2 === 0 ? `/echo/again${(n / 2) % 8}` : `/echo/${process.pid}c${i}n${n}`;
      console.log(JSON.stringify(await one(session, "POST", path, n * connections + i, "-")));
      await sleep(millis);
    };
    const work = async () => {
      while (!over) await repeat();
    };
    await Promise.all(Array.from({ length: streams }, work));
    session.close();
  };
  await Promise.all(Array.from({ length: connections }, (_, i) => connection(i)));
};

await (mode === "client" ? client : busy)(...numbers.map(Number));
