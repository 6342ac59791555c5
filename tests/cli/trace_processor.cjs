// Runs the trace processor of a Perfetto UI outside a browser. Requests come on stdin and replies go to stdout, both in
// Perfetto's RPC format. The one argument is the UI's folder, with engine_bundle.js and the WebAssembly beside it.
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const folder = process.argv[2];
const log = (...words) => console.error(...words);

// The engine fetches its WebAssembly in one synchronous request.
class XMLHttpRequest {
  open(method, name) {
    this.file = path.join(folder, path.basename(name));
  }
  send() {
    this.response = fs.readFileSync(this.file);
  }
}

// What the engine looks for in the web worker that it takes this for; the rest every realm of JavaScript has.
const worker = vm.createContext({
  WorkerGlobalScope: Object,
  location: { href: "file:///engine_bundle.js" },
  importScripts() {},
  console: { log, warn: log, error: log },
  XMLHttpRequest, performance, setTimeout, clearTimeout, TextDecoder, TextEncoder, URL,
});
worker.self = worker;
vm.runInContext(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"), worker);

// It becomes ready in a promise of its own, which has been kept by then.
setImmediate(() => {
  const port = { postMessage: (reply) => fs.writeSync(1, reply) };
  const Bytes = vm.runInContext("Uint8Array", worker);
  worker.onmessage({ data: port });
  port.onmessage({ data: new Bytes(fs.readFileSync(0)) });
});
