// Checks documents with the official programs; what is wrong goes to stdout, a line each, and nothing if all is well.
//
//   node check.mjs asyncapi < asyncapi.json
//   node check.mjs events < {"schema": …, "events": [{"event": …, "data": …}]}     a line says which event is wrong
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

await { asyncapi, events, typescript }[what]();
