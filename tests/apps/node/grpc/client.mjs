// client.mjs PORT CONCURRENCY CHANNELS: the calls of standard input (one JSON object per line) by grpc-js; what was done goes to
// standard output, one JSON object per line.
import readline from "node:readline";
import grpc from "@grpc/grpc-js";
import { services } from "./echo.mjs";

const [port, concurrency, channels] = process.argv.slice(2).map(Number);
const origin = BigInt(Math.round(performance.timeOrigin * 1000)) * 1000n;
const begun = process.hrtime.bigint() - BigInt(Math.round(performance.now() * 1e6));
const now = () => Number(origin + process.hrtime.bigint() - begun);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const exchange = (client, one, done) => new Promise((resolve) => {
  const [service, name] = one.method.split("/");
  const method = services[Number(service.slice("test.Echo".length))][name] ??
    { ...services[0].Unary, path: `/${one.method}` };
  const metadata = new grpc.Metadata();
  metadata.set("x-call", one.id);
  metadata.set("x-do", one.do);
  if (one.traceparent) metadata.set("traceparent", one.traceparent);
  const options = one.deadline ? { deadline: Date.now() + one.deadline } : {};
  const message = Buffer.alloc(one.size);
  const sent = () => {
    done.sent += 1;
    done.sent_bytes += one.size;
  };
  const received = (reply) => {
    done.received += 1;
    done.received_bytes += reply.length;
    if (name === "Where") done.port = Number(reply.toString());
  };
  const answered = (error, reply) => {
    if (!error) received(reply);
  };
  const codec = [method.path, method.requestSerialize, method.responseDeserialize];
  let call;
  if (name === "Collect") {
    call = client.makeClientStreamRequest(...codec, metadata, options, answered);
  } else if (name === "Spread") {
    call = client.makeServerStreamRequest(...codec, message, metadata, options);
  } else if (name === "Chat") {
    call = client.makeBidiStreamRequest(...codec, metadata, options);
  } else {
    call = client.makeUnaryRequest(...codec, message, metadata, options, answered);
  }
  const timer = one.cancel ? setTimeout(() => call.cancel(), one.cancel) : undefined;
  let over = false;
  call.on("status", (status) => {
    over = true;
    clearTimeout(timer);
    done.code = status.code;
    done.message = status.details;
    resolve();
  });
  if (name === "Spread" || name === "Chat") call.on("error", () => {});
  if (name === "Spread") {
    call.on("data", received);
    sent();
  } else if (name === "Collect") {
    (async () => {
      for (let i = 0; i < one.count && !over; i++) {
        if (i && one.pause) await pause(one.pause);
        if (!call.write(message)) await new Promise((resume) => call.once("drain", resume));
        sent();
      }
      call.end();
    })();
  } else if (name === "Chat") {
    const next = () => {
      if (over) return;
      if (done.sent < one.count) {
        call.write(message);
        sent();
      } else {
        call.end();
      }
    };
    call.on("data", (reply) => {
      received(reply);
      one.pause && done.sent < one.count ? setTimeout(next, one.pause) : next();
    });
    next();
  } else {
    sent();
  }
});

const opened = Array.from({ length: channels }, (_, i) =>
  // Channels with the same options share a connection.
  new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), { "channel": i, "grpc.use_local_subchannel_pool": 1 }));
const zipped = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(),
  { "grpc.default_compression_algorithm": 2, "grpc.use_local_subchannel_pool": 1 });
const plan = [];
const idle = [];
let ended = false;
const take = () => new Promise((resolve) => {
  if (plan.length) resolve(plan.shift());
  else if (ended) resolve(undefined);
  else idle.push(resolve);
});
const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const one = JSON.parse(line);
  const waiting = idle.shift();
  if (waiting) return waiting(one);
  plan.push(one);
  if (plan.length >= concurrency) lines.pause();
});
lines.on("close", () => {
  ended = true;
  idle.forEach((waiting) => waiting(undefined));
});
const work = async (client) => {
  for (let one; (one = await take()) !== undefined; ) {
    if (plan.length < concurrency && !ended) lines.resume();
    const done = { id: one.id, method: one.method, sent: 0, sent_bytes: 0, received: 0, received_bytes: 0, port: 0 };
    Object.assign(done, { pid: process.pid, start: now() });
    await exchange(one.gzip ? zipped : client, one, done);
    done.end = now();
    console.log(JSON.stringify(done));
  }
};
await Promise.all(Array.from({ length: concurrency }, (_, i) => work(opened[i % channels])));
for (const client of [...opened, zipped]) client.close();
