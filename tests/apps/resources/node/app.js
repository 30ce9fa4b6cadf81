const http = require("node:http");

http.createServer((_, response) => response.end(String(process.pid))).listen(Number(process.argv[2]), "127.0.0.1");
