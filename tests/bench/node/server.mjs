// Node's socket.io as a server under test: the control routes of src/app/bench/mod.rs beside a stock server.
//   node server.mjs PORT [--recovery]
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { Server } from "socket.io";

const [port, ...flags] = process.argv.slice(2);
const MAX_BODY = 10_000;

const now = () => Math.floor((performance.timeOrigin + performance.now()) * 1000);

const http = createServer((request, response) => {
  const answer = (status, body) => {
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(body));
  };
  if (request.method === "GET" && request.url === "/bench/ready") return answer(200, {});
  if (request.method !== "POST") return answer(404, { error: "no such route" });
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (piece) => {
    body += piece;
    if (body.length > MAX_BODY) request.destroy();
  });
  request.on("end", () => {
    switch (request.url) {
      case "/bench/rooms":
        return answer(200, { room: randomUUID() });
      case "/bench/publish":
        publish(JSON.parse(body));
        return answer(200, { committed: now() });
      default:
        return answer(404, { error: "no such route" });
    }
  });
});

const recovery = flags.includes("--recovery") ? { connectionStateRecovery: {} } : {};
const io = new Server(http, recovery);

io.on("connection", (socket) => {
  socket.on("job:subscribe", (room, answer) => {
    socket.join(room);
    answer?.({ ok: true });
  });
});

function publish({ room, count, bytes, from }) {
  const t = now();
  for (let n = from; n < from + count; n++) {
    const message = `n=${n} t=${t} `.padEnd(bytes, "~");
    io.to(room).emit("job:updated", { jobId: room, timestamp: new Date().toISOString(), status: "rendering", message });
  }
}

process.on("SIGTERM", () => io.close(() => process.exit(0)));

http.listen(Number(port), "127.0.0.1");
