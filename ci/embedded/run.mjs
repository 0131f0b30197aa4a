// Runs a WebAssembly module that exports `_start` and imports `print`: takes its path, gives what it prints on standard output, and on standard
// error a line `name instructions` for each kernel that ran, where `footprint count` made the module.
import { readFileSync, writeSync } from "node:fs";

const module = await WebAssembly.instantiate(readFileSync(process.argv[2]), {
  env: { print: (at, length) => writeSync(1, new Uint8Array(module.instance.exports.memory.buffer, at, length)) },
});
module.instance.exports._start();
const counts = Object.entries(module.instance.exports)
  .filter(([name, value]) => name.startsWith("instructions ") && value.value > 0n)
  .map(([name, value]) => `${name.slice("instructions ".length)} ${value.value}\n`);
writeSync(2, counts.join(""));
