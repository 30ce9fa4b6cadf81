// The echo services by grpc-js: server.mjs PORT
import grpc from "@grpc/grpc-js";
import { services } from "./echo.mjs";

const wish = (call) => {
  const [replies, size, status, sleep] = String(call.metadata.get("x-do")[0] ?? "0,0,0,0").split(",").map(Number);
  return { replies, size, status, sleep };
};
const failure = (status) => ({ code: status, details: "as wished: €" });

const answer = (call, callback) => {
  const { size, status, sleep } = wish(call);
  const reply = () => (status ? callback(failure(status)) : callback(null, Buffer.alloc(size)));
  sleep ? setTimeout(reply, sleep) : reply();
};

// Ends a stream of replies.
const finish = (call, { status, sleep }) => {
  const end = () => (status ? call.emit("error", failure(status)) : call.end());
  sleep ? setTimeout(end, sleep) : end();
};

const implementation = {
  Unary: answer,
  Where: (call, callback) => callback(null, Buffer.from(call.getPeer().split(":").pop())),
  Collect: (call, callback) => {
    call.on("data", () => {});
    call.on("end", () => answer(call, callback));
  },
  Spread: async (call) => {
    const wished = wish(call);
    for (let i = 0; i < wished.replies; i++) {
      if (!call.write(Buffer.alloc(wished.size))) await new Promise((resolve) => call.once("drain", resolve));
    }
    finish(call, wished);
  },
  Chat: (call) => {
    const wished = wish(call);
    let left = wished.replies;
    const over = () => {
      if (left >= 0) finish(call, wished);
      left = -1;
    };
    call.on("data", () => {
      if (left > 0) {
        call.write(Buffer.alloc(wished.size));
        left -= 1;
        if (left === 0) over();
      }
    });
    call.on("end", over);
  },
};

const server = new grpc.Server();
for (const service of services) server.addService(service, implementation);
server.bindAsync(`127.0.0.1:${process.argv[2]}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
