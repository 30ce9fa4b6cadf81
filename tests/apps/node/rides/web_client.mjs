// Calls gRPC's health service by `grpc-web`, Google's own client, and prints what each call came to. Arguments: base URL, format
// (`binary` or `text`); the calls come as a JSON list on standard input.
import { text } from "node:stream/consumers";
import http from "node:http";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
globalThis.XMLHttpRequest = require("xhr2");
const { GrpcWebClientBase, MethodDescriptor, MethodType } = require("grpc-web");

const [base, format] = process.argv.slice(2);
const client = new GrpcWebClientBase({ format });

// HealthCheckRequest { string service = 1 }, HealthCheckResponse { ServingStatus status = 1 }.
const encode = (service) => {
  const name = Buffer.from(service);
  return service ? Uint8Array.from([10, name.length, ...name]) : new Uint8Array();
};
const decode = (bytes) => bytes.length;
class Message {}

function call({ method, service }) {
  const path = `/grpc.health.v1.Health/${method}`;
  return new Promise((resolve) => {
    if (method !== "Watch") {
      const descriptor = new MethodDescriptor(path, MethodType.UNARY, Message, Message, encode, decode);
      client.rpcCall(base + path, service, {}, descriptor, (error) =>
        resolve({ method, code: error ? error.code : 0, messages: error ? 0 : 1 }),
      );
      return;
    }
    // Its stream would go on for ever, and xhr2 tells nothing of one before its end: by hand, up to the first message.
    const body = encode(service);
    const frame = Buffer.from([0, 0, 0, 0, body.length, ...body]);
    const type = format === "text" ? "application/grpc-web-text" : "application/grpc-web+proto";
    const request = http.request(base + path, { method: "POST", headers: { "content-type": type } }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => {
        pieces.push(piece);
        const all = Buffer.concat(pieces);
        const bytes = format === "text" ? Buffer.from(all.toString(), "base64") : all;
        if (bytes.length < 5 || bytes.length < 5 + bytes.readUInt32BE(1)) return;
        answer.destroy();
      });
      answer.on("error", () => {});
      answer.on("close", () => resolve({ method, code: null, messages: 1 }));
    });
    request.end(format === "text" ? frame.toString("base64") : frame);
  });
}

for (const plan of JSON.parse(await text(process.stdin))) {
  console.log(JSON.stringify(await call(plan)));
}
process.exit(0);
