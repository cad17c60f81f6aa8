// onnxruntime-node: ONNX Runtime's native library in Node, on the CPU.

import { createRequire } from "node:module";
import { join } from "node:path";

const ort = createRequire(join(process.cwd(), "package.json"))("onnxruntime-node");

export const version = ort.env.versions.node;

export async function load(path) {
  const session = await ort.InferenceSession.create(path);
  return (inputs) =>
    session.run(Object.fromEntries(Object.entries(inputs).map(([name, t]) => [name, new ort.Tensor(t.type, t.data, t.dims)])));
}
