// Runs one ONNX file on one JavaScript runtime; what worker.py is for Python.
//
//     node worker.mjs RUNTIME FILE.onnx OUTPUTS CASES RESULTS
//
// RUNTIME is a file here that exports `version` and `load(path)`, which gives a function from inputs to outputs, both
// {name: {type, dims, data}}. Its package is found in the current folder's node_modules.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const KINDS = { F32: ["float32", Float32Array], I64: ["int64", BigInt64Array], U8: ["uint8", Uint8Array] };

/** Read a .safetensors file: 8 bytes of length, a JSON header, the data. */
function read(path) {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, start).toString("utf8"));
  delete header.__metadata__;
  return Object.fromEntries(
    Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) => {
      const [type, Kind] = KINDS[dtype];
      const aligned = Uint8Array.from(bytes.subarray(start + from, start + to));
      return [name, { type, dims: shape, data: new Kind(aligned.buffer) }];
    }),
  );
}

/** Write a .safetensors file. */
function write(path, tensors) {
  const header = {};
  const parts = [];
  let offset = 0;
  for (const [name, { type, dims, data }] of Object.entries(tensors)) {
    const [dtype] = Object.entries(KINDS).find(([, [kind]]) => kind === type);
    header[name] = { dtype, shape: Array.from(dims), data_offsets: [offset, offset + data.byteLength] };
    parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    offset += data.byteLength;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, text, ...parts]));
}

const [runtime, model, , cases, results] = process.argv.slice(2);
const adapter = await import(new URL(`${runtime}.mjs`, import.meta.url));
writeFileSync(join(results, "version"), adapter.version);
let run;
for (const file of readdirSync(cases).sort()) {
  try {
    run ??= await adapter.load(model);
    write(join(results, file), await run(read(join(cases, file))));
  } catch (error) {
    writeFileSync(join(results, file.replace(/safetensors$/, "error")), String(error?.message ?? error));
  }
}
