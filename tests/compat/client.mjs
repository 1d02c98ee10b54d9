// One stock socket.io-client, driven by JSON lines on stdin; what it sees goes to stdout, one JSON line each.
// It decides nothing: tests/it/compat.rs holds all logic and every assertion.
//
//   in   {"connect": {"version": 4, "url": "…", "listen": ["job:updated"], "onConnect": [["job:subscribe", id]],
//                     "options": {…}}}          the options are the library's own
//        {"emit": ["event", …], "ack": 7}       "ack" only where an acknowledgement is wanted
//        {"disconnect": true}
//   out  {"connected": transport, "recovered"?} · {"upgraded": transport} · {"disconnected": reason}
//        {"error": message} · {"event": name, "args": […]} · {"ack": 7, "args": […]}
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const libraries = {
  2: () => require("socket.io-client-v2"),
  3: () => require("socket.io-client-v3").io,
  4: () => require("socket.io-client-v4").io,
};
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
let socket;

function connect({ version, url, listen, onConnect, options }) {
  socket = libraries[version]()(url, { ...options, forceNew: true });
  const { io } = socket;
  socket.on("connect", () => {
    // First of all, as a page would: nothing may be lost however fast this is.
    for (const message of onConnect) socket.emit(...message);
    say({ connected: io.engine.transport.name, recovered: socket.recovered });
    io.engine.on("upgrade", (transport) => say({ upgraded: transport.name }));
  });
  socket.on("disconnect", (reason) => say({ disconnected: reason }));
  socket.on("connect_error", (error) => say({ error: error.message }));
  for (const event of listen) socket.on(event, (...args) => say({ event, args }));
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.connect) connect(command.connect);
  if (command.emit && "ack" in command) socket.emit(...command.emit, (...args) => say({ ack: command.ack, args }));
  else if (command.emit) socket.emit(...command.emit);
  if (command.disconnect) socket.disconnect();
}
process.exit(0);
