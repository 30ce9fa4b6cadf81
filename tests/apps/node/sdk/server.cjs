// A service that OpenTelemetry's automatic instrumentation for Node traces:
// node --require @opentelemetry/auto-instrumentations-node/register server.cjs PORT
const http = require("node:http");

const next = process.env.NEXT ?? "";
const agent = new http.Agent({ keepAlive: true });

const call = (id) =>
  new Promise((resolve, reject) => {
    const request = http.get(`${next}/hello/${id}`, { agent }, (answer) => {
      answer.resume().on("end", () => resolve(`${answer.statusCode}\n`));
    });
    request.on("error", reject);
  });

const server = http.createServer(async (request, response) => {
  const [what, first] = request.url.slice(1).split("/");
  if (what === "sleep") await new Promise((resolve) => setTimeout(resolve, Number(first)));
  response.end(what === "call" ? await call(first) : "hello\n");
});

server.listen(Number(process.argv[2]), "127.0.0.1", 1024);
