// Checks documents with the official programs; what is wrong goes to stdout, a line each, and nothing if all is well.
//
//   node check.mjs asyncapi < asyncapi.json
//   node check.mjs events < {"schema": …, "events": [{"event": …, "data": …}]}     a line says which event is wrong
//   node check.mjs sockets < {"document": …, "spoken": [{"path": …, "by": "server" | "client", "text": …}]}
//       a line says which message of the server is none, or more than one, of those that the document has for its channel;
//       which messages of the document were spoken goes to stderr
//   node check.mjs typescript events.d.ts page.ts                                  what tsc says of the page
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const [what, ...files] = process.argv.slice(2);
const input = () => readFileSync(0, "utf8");

async function asyncapi() {
  const { Parser } = await import("@asyncapi/parser");
  const { document, diagnostics } = await new Parser().parse(input());
  // 0 is an error, 1 a warning; hints (a newer version of AsyncAPI) are no fault.
  for (const { severity, message, path } of diagnostics) {
    if (severity < 2) console.log(`${path.join(".")}: ${message}`);
  }
  if (!document) return console.log("no document");
  const names = document.allMessages().all().map((message) => message.name());
  console.error(JSON.stringify({ channels: document.channels().all().map((c) => c.address()), names }));
}

async function events() {
  const { default: Ajv } = await import("ajv/dist/2020.js");
  const { default: formats } = await import("ajv-formats");
  const { schema, events } = JSON.parse(input());
  const ajv = new Ajv({ allErrors: true, strict: true, strictRequired: false, strictTypes: false });
  formats(ajv);
  const validate = ajv.compile(schema);
  events.forEach((event, at) => {
    if (!validate(event)) console.log(`${at} ${event.event ?? event.type}: ${ajv.errorsText(validate.errors)}`);
  });
}

/** A schema that takes no key which it does not know: what is told beyond the contract is a fault of the contract. */
function closed(schema) {
  if (Array.isArray(schema)) return schema.map(closed);
  if (typeof schema !== "object" || schema === null) return schema;
  const inner = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  return schema.type && schema.properties ? { additionalProperties: false, ...inner } : inner;
}

/** What server and clients say over each channel at a raw path: `{path, by, name, isText, validate}`. */
function spokenOf(document, ajv) {
  const last = (reference) => reference.$ref.split("/").pop();
  return Object.values(document.operations).flatMap(({ action, channel, messages, reply }) => {
    const { address, servers, messages: all } = document.channels[last(channel)];
    if (last(servers[0]) !== "plain") return [];
    const path = new RegExp(`^${address.replace(/{\w+}/g, "[^/]+")}$`);
    const of = (by) => (reference) => {
      const { name, contentType, payload } = all[last(reference)];
      const validate = ajv.compile(closed(payload));
      return { path, by, name: `${address} ${by} ${name}`, isText: contentType === "text/plain", validate };
    };
    const [speaker, other] = action === "send" ? ["server", "client"] : ["client", "server"];
    return [...messages.map(of(speaker)), ...(reply?.messages ?? []).map(of(other))];
  });
}

async function sockets() {
  const { default: Ajv } = await import("ajv/dist/2020.js");
  const { default: formats } = await import("ajv-formats");
  const { document, spoken } = JSON.parse(input());
  const ajv = new Ajv({ allErrors: true, strict: true, strictRequired: false, strictTypes: false });
  formats(ajv);
  const known = spokenOf(document, ajv);
  const parsed = (text) => {
    try {
      return JSON.parse(text);
    } catch {
      return undefined;
    }
  };
  const seen = new Set();
  spoken.forEach(({ path, by, text }, at) => {
    const candidates = known.filter((message) => message.path.test(path) && message.by === by);
    const fits = candidates.filter(({ isText, validate }) => validate(isText ? text : parsed(text)));
    fits.forEach(({ name }) => seen.add(name));
    if (by === "server" && fits.length !== 1) {
      const why = candidates.map(({ name, validate }) => `${name}: ${ajv.errorsText(validate.errors)}`);
      console.log(`${at} ${path} ${text} is ${fits.length} of them; ${why.join("; ")}`.replaceAll("\n", " "));
    }
  });
  console.error(JSON.stringify({ known: known.map(({ name }) => name), seen: [...seen] }));
}

async function typescript() {
  const { default: ts } = await import("typescript");
  const program = ts.createProgram(files, {
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
    types: [],
    paths: { "socket.io-client": [join(dirname(fileURLToPath(import.meta.url)), "node_modules/socket.io-client")] },
  });
  for (const found of ts.getPreEmitDiagnostics(program)) {
    const { line } = found.file ? found.file.getLineAndCharacterOfPosition(found.start) : { line: -1 };
    const text = ts.flattenDiagnosticMessageText(found.messageText, " ");
    console.log(`${found.file?.fileName.split("/").pop()}:${line + 1} TS${found.code} ${text}`);
  }
}

await { asyncapi, events, sockets, typescript }[what]();
