// client.mjs BASE CONCURRENCY: the requests of standard input (METHOD, PATH, BODY BYTES, traceparent or '-', by tabs) with fetch;
// what was done goes to standard output, one JSON object per line.
import fs from "node:fs";

const [, , base, concurrency] = process.argv;
const plan = fs.readFileSync(0, "utf8").split("\n").filter(Boolean);
const lines = [];
const now = () => Math.round((performance.timeOrigin + performance.now()) * 1e6);

const work = async () => {
  for (;;) {
    const line = plan.shift();
    if (line === undefined) return;
    const [method, path, size, traceparent] = line.split("\t");
    const sent = Number(size);
    const start = now();
    const answer = await fetch(base + path, {
      method,
      body: sent > 0 ? "b".repeat(sent) : undefined,
      headers: traceparent === "-" ? {} : { traceparent },
      redirect: "manual",
    });
    const received = (await answer.arrayBuffer()).byteLength;
    lines.push(JSON.stringify({ method, path, status: answer.status, sent, received, start, end: now(), pid: process.pid }));
  }
};

await Promise.all(Array.from({ length: Number(concurrency) }, work));
console.log(lines.join("\n"));
