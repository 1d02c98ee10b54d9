// A receiver of webhooks that verifies with the reference library. What it gets goes to stdout, one JSON line each;
// tests/it/webhooks.rs holds all logic and every assertion.
//
//   in   {"secret": "whsec_…"}                 what it verifies with
//        {"answers": {"job:failed": [500, 0]}} the next answers to messages of a type; 0 is none at all, else it is 200
//        {"headers": {"retry-after": "1"}}     sent with every answer that is no success
//        {"hold": true}                        says what it gets, and answers after the next order
//   out  {"port": 1234} · {"id", "type", "body", "verified", "why", "status"}
//
// A file with a key and a certificate as its argument has it serve https.
import { readFileSync } from "node:fs";
import * as http from "node:http";
import * as https from "node:https";
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
let secret;
let answers = {};
let headers = {};
let hold = false;
let held = [];

const hear = (request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const text = Buffer.concat(chunks).toString();
    const body = JSON.parse(text);
    let why = "";
    try {
      new Webhook(secret).verify(text, request.headers);
    } catch (error) {
      why = error.message;
    }
    const status = answers[body.type]?.shift() ?? 200;
    say({ id: request.headers["webhook-id"], type: body.type, body, verified: why === "", why, status });
    if (status === 0) return;
    const answer = () => {
      response.writeHead(status, status < 300 ? {} : { location: "/elsewhere", ...headers });
      response.end("{}");
    };
    if (hold) held.push(answer);
    else answer();
  });
};
const pem = process.argv[2] && readFileSync(process.argv[2]);
const server = pem ? https.createServer({ key: pem, cert: pem }, hear) : http.createServer(hear);
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  secret = command.secret ?? secret;
  answers = command.answers ?? answers;
  headers = command.headers ?? headers;
  hold = command.hold ?? false;
  for (const answer of held.splice(0)) answer();
  say({ ready: true });
}
process.exit(0);
