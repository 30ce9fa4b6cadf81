// Calls gRPC's health service by `grpc-web`, Google's own client, and prints what each call came to. Arguments: base URL, format
// (`binary` or `text`); the calls come as a JSON list on standard input.
import { text } from "node:stream/consumers";
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
const describe = (path, type) => new MethodDescriptor(path, type, Message, Message, encode, decode);

function call({ method, service, metadata }) {
  const path = `/grpc.health.v1.Health/${method}`;
  return new Promise((resolve) => {
    if (method !== "Watch") {
      const descriptor = describe(path, MethodType.UNARY);
      client.rpcCall(base + path, service, metadata, descriptor, (error, answer) =>
        resolve({ method, metadata, code: error ? error.code : 0, messages: error ? 0 : 1 }),
      );
      return;
    }
    const stream = client.serverStreaming(base + path, service, metadata, describe(path, MethodType.SERVER_STREAMING));
    let messages = 0;
    stream.on("error", (error) => resolve({ method, metadata, code: error.code, messages }));
    stream.on("data", () => {
      messages += 1;
      // It would go on for ever.
      stream.cancel();
      resolve({ method, metadata, code: null, messages });
    });
  });
}

for (const plan of JSON.parse(await text(process.stdin))) {
  console.log(JSON.stringify(await call(plan)));
}
process.exit(0);
