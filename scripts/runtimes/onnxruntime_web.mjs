// onnxruntime-web: ONNX Runtime as WebAssembly, here in Node; the same .wasm file as in a browser.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const ort = createRequire(join(process.cwd(), "package.json"))("onnxruntime-web");
ort.env.wasm.numThreads = 1;

export const version = ort.env.versions.web;

export async function load(path) {
  const session = await ort.InferenceSession.create(readFileSync(path), { executionProviders: ["wasm"] });
  return (inputs) =>
    session.run(Object.fromEntries(Object.entries(inputs).map(([name, t]) => [name, new ort.Tensor(t.type, t.data, t.dims)])));
}
