// Runs WebSocket sessions by `ws` and prints what each of them did, as ../../python/rides/ws_client.py does.
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { WebSocket } from "ws";

const [base, compression] = process.argv.slice(2);

async function run(plan) {
  const [sent, received] = [[], []];
  let code = null;
  const session = new WebSocket(base + plan.path, { perMessageDeflate: compression !== "none" });
  const waiting = [];
  let arrived = () => {};
  session.on("message", (message) => {
    received.push(message.length);
    waiting.push(message);
    arrived();
  });
  const send = (message) => {
    session.send(message);
    sent.push(message.length);
  };
  const receive = async () => {
    while (waiting.length === 0) await new Promise((resolve) => (arrived = resolve));
    waiting.shift();
  };
  await once(session, "open");
  for (const [verb, a, b] of plan.ops) {
    if (verb === "echo") {
      send(Buffer.alloc(a, "e"));
      await receive();
    } else {
      send(`push ${a} ${b}`);
      for (let i = 0; i < a; i++) await receive();
    }
  }
  const [by, number] = plan.close;
  const closed = once(session, "close");
  if (by === "client") session.close(number);
  else if (by === "server") send(`bye ${number}`);
  else if (by === "reset") session._socket.resetAndDestroy();
  else session.terminate();
  const [said] = await closed;
  if (by === "client" || by === "server") code = said;
  console.log(JSON.stringify({ path: plan.path, sent, received, code }));
}

for (const plan of JSON.parse(await text(process.stdin))) await run(plan);
