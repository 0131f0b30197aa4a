// Runs a WebAssembly module that exports `_start` and imports `print`: takes its path, gives what it prints on standard output.
import { readFileSync, writeSync } from "node:fs";

const module = await WebAssembly.instantiate(readFileSync(process.argv[2]), {
  env: { print: (at, length) => writeSync(1, new Uint8Array(module.instance.exports.memory.buffer, at, length)) },
});
module.instance.exports._start();
